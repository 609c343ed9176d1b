"""The typed workflow: what one YAML file says, assembled from the table of stages, and the order of its stages."""

import importlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, reduce
from operator import or_
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, create_model

from medpipe.config.base import Config
from medpipe.config.errors import ConfigError, Problem, raise_if_any
from medpipe.config.resolve import resolve
from medpipe.config.schema import schema_of
from medpipe.config.share import SharedKind, share_folder
from medpipe.config.show import render
from medpipe.config.suggestions import suggestion
from medpipe.config.tree import MappingNode, Node, node_at, walk
from medpipe.config.validation import partial_problems, validate
from medpipe.datasets.cases import DataConfig
from medpipe.engine.cluster.options import ClusterConfig
from medpipe.engine.signals import JobConfig
from medpipe.stages.stage import Stage
from medpipe.stages.table import STAGES

NAME = re.compile(r"[a-z][a-z0-9_]*")


class Workflow(Config):
    """What a workflow file may hold. `stages` is typed by the table of stages, see `workflow_model`."""

    workflow: str = Field(pattern=NAME.pattern + "$", description="name of the workflow, in snake case")
    title: str = Field("", description="what the report is headed with; default: the name")
    description: str = ""
    seed: int = Field(0, ge=0)
    data: DataConfig = DataConfig()
    cluster: ClusterConfig | None = Field(None, description="where `medpipe submit` sends the stages")
    job: JobConfig = JobConfig()
    stages: Mapping[str, Any]


@cache
def stage_classes() -> dict[str, type[Stage]]:
    """Kind of stage -> its class."""
    classes = {}
    for kind, target in STAGES.items():
        module, name = target.split(":")
        classes[kind] = getattr(importlib.import_module(module), name)
    return classes


@cache
def workflow_model() -> type[Workflow]:
    """`Workflow` with every kind of stage in its type: what is validated, and what the JSON schema shows."""
    any_stage: Any = Annotated[reduce(or_, stage_classes().values()), Field(discriminator="stage")]
    stages: Any = dict[str, any_stage]  # pyright: ignore[reportInvalidTypeForm]  # only known when the table is read
    return create_model("Workflow", __base__=Workflow, stages=(stages, ...))


def workflow_schema() -> dict[str, Any]:
    """The JSON schema of a workflow file. Of a stage only its kind is required: `defaults` may hold all the rest."""
    schema = schema_of(workflow_model(), kinds=tuple(STAGES))
    for name, part in schema["$defs"].items():
        if "required" in part and name != "StageRef":
            part["required"] = [key for key in part["required"] if key in ("stage", "name", "from", "manifest")]
    return schema


@dataclass(frozen=True)
class LoadedWorkflow:
    """A workflow with its values, the tree that knows where each came from, and where it lies."""

    values: Workflow
    tree: MappingNode
    path: Path
    overlays: tuple[Path, ...]
    kept_base: Path | None = None  # of a copy that `medpipe submit` keeps: where the original lies

    @property
    def base(self) -> Path:
        """What relative manifest paths are relative to: the workflow's folder."""
        return self.kept_base or self.path.parent

    @cached_property
    def needs(self) -> dict[str, tuple[str, ...]]:
        """Stage -> the stages that it takes from."""
        return {name: tuple(ref.from_ for ref in stage.references()) for name, stage in self.values.stages.items()}

    def order(self) -> list[str]:
        """Stages in an order in which each stands behind what it takes from; else as the file has them."""
        ordered: list[str] = []

        def visit(name: str) -> None:
            if name not in ordered:
                for needed in self.needs[name]:
                    visit(needed)
                ordered.append(name)

        for name in self.values.stages:
            visit(name)
        return ordered

    def needed_by(self, name: str) -> set[str]:
        """All stages that `name` takes from, directly or through others."""
        direct = set(self.needs[name])
        return direct.union(*(self.needed_by(other) for other in direct))

    def text(self) -> str:
        """The resolved workflow as YAML, with where each value came from; reading it gives the same workflow."""
        return render(self.tree, self.values)


def load_workflow(
    reference: str, overlays: Sequence[str] = (), overrides: Sequence[str] = (), *, base: Path | None = None
) -> LoadedWorkflow:
    """Read, merge and validate. `reference` and `overlays` are names of shipped files or paths."""
    path = find_file("workflows", reference)
    overlay_paths = tuple(find_file("configs", overlay) for overlay in overlays)
    tree = resolve(
        path,
        overlay_paths,
        tuple(overrides),
        kinds=tuple(STAGES),
        known_keys=(*Workflow.model_fields, "defaults"),
        check_defaults=lambda kind, node: partial_problems(stage_classes()[kind], node),
    )
    values = validate(workflow_model(), tree)
    loaded = LoadedWorkflow(values, tree, path, overlay_paths, base)
    check_references(loaded)
    return loaded


def find_file(kind: SharedKind, reference: str) -> Path:
    """A path as it is, or the shipped file of that name."""
    if reference.endswith((".yaml", ".yml")) or "/" in reference:
        return Path(reference)
    folder = share_folder(kind)
    path = folder / f"{reference}.yaml"
    if not path.is_file():
        known = sorted(file.stem for file in folder.glob("*.yaml"))
        hint = suggestion(reference, known, f"{kind} that come with medpipe")
        raise ConfigError([Problem(reference, None, None, f"no such {kind[:-1]} by name{hint}")])
    below = path.is_relative_to(Path.cwd())  # messages then name it as a user of the checkout would
    return path.relative_to(Path.cwd()) if below else path


def check_references(workflow: LoadedWorkflow) -> None:
    """Refuse a `{from: ...}` that names no stage, a stage of the wrong kind, or closes a circle."""
    stages = workflow.values.stages
    problems: list[Problem] = []
    for name in stages:
        if not NAME.fullmatch(name):
            node = node_at(workflow.tree, ("stages", name))
            problems.append(Problem.at(node.origin, f"stage name '{name}' must be in snake case"))  # type: ignore[union-attr]
    for path, node in walk(workflow.tree):
        if len(path) > 2 and path[0] == "stages" and path[-1] == "from":
            problems.extend(faults_of_reference(workflow, path, node))
    raise_if_any(problems)
    for name in stages:
        check_no_circle(workflow, name)


def faults_of_reference(workflow: LoadedWorkflow, path: tuple[str | int, ...], node: Node) -> list[Problem]:
    """What is wrong with one `from:`."""
    stages, owner, target = workflow.values.stages, str(path[1]), getattr(node, "value", None)
    if not isinstance(target, str):
        return []
    if target not in stages or target == owner:
        hint = suggestion(target, [name for name in stages if name != owner], "stages of this workflow")
        return [Problem.at(node.origin, f"stage '{owner}' takes from '{target}', which is no other stage{hint}")]
    field = ".".join(str(part) for part in path[2:-1] if not isinstance(part, int))
    wanted = type(stages[owner]).takes.get(field, ())
    if wanted and stages[target].stage not in wanted:
        kinds = " or ".join(wanted)
        return [
            Problem.at(
                node.origin, f"'{field}' takes from a stage of kind {kinds}; '{target}' is {stages[target].stage}"
            )
        ]
    return []


def check_no_circle(workflow: LoadedWorkflow, start: str) -> None:
    """Refuse stages that take from each other in a circle."""
    trail = [start]

    def follow(name: str) -> None:
        for needed in workflow.needs[name]:
            if needed == start:
                node = node_at(workflow.tree, ("stages", start))
                circle = " -> ".join([*trail, start])
                raise ConfigError([Problem.at(node.origin, f"stages take from each other in a circle: {circle}")])  # type: ignore[union-attr]
            if needed not in trail:
                trail.append(needed)
                follow(needed)
                trail.pop()

    follow(start)
