"""From the layers of `cluster:` to the resources of one stage, and what is refused before anything is submitted."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from medpipe.config.errors import Problem, raise_if_any
from medpipe.config.suggestions import suggestion
from medpipe.config.tree import MappingNode, Node, node_at
from medpipe.engine.checking import check_batches
from medpipe.engine.cluster.options import ClusterConfig, Resources
from medpipe.engine.workflow import LoadedWorkflow
from medpipe.stages.stage import Stage
from medpipe.stages.table import STAGES

# By what a kind of stage does: its job where nobody says anything else.
DEFAULTS: Mapping[str, Resources] = {
    "training": Resources(nodes=1, gpus_per_node=1, cpus_per_process=8, memory_gib=64, hours=24),
    "prediction": Resources(nodes=1, gpus_per_node=1, cpus_per_process=8, memory_gib=64, hours=8, array=1),
    "cpu": Resources(nodes=1, gpus_per_node=0, cpus_per_process=8, memory_gib=32, hours=4),
}


@dataclass(frozen=True)
class JobResources:
    """What one job gets, nothing left open but what the cluster itself decides (None)."""

    nodes: int
    gpus_per_node: int
    gpu_type: str | None
    processes_per_node: int
    cpus_per_process: int
    memory_gib: float
    hours: float
    partition: str | None
    account: str | None
    qos: str | None
    constraint: str | None
    sbatch: tuple[str, ...]
    array: int
    array_at_once: int | None

    @property
    def processes(self) -> int:
        return self.nodes * self.processes_per_node


def resources_of_stage(cluster: ClusterConfig, name: str, stage: Stage) -> JobResources:
    """What the job of a stage gets."""
    return resources_of(cluster, name, stage.stage, stage.work, spreads=stage.uses_processes)


def resources_of(cluster: ClusterConfig, name: str, kind: str, work: str, *, spreads: bool = False) -> JobResources:
    """The layers for one job, the later over the earlier. spreads: whether several processes share its work."""
    layers = [DEFAULTS[work], cluster.all, cluster.kinds.get(kind, Resources()), cluster.stages.get(name, Resources())]
    values: dict[str, Any] = {}
    for layer in layers:
        values |= {
            field: getattr(layer, field) for field in layer.model_fields_set if getattr(layer, field) is not None
        }
    if work == "cpu":  # what `all` says of GPUs is meant for the stages that use them
        own = [layer for layer in layers[2:] if layer.gpus_per_node is not None]
        values["gpus_per_node"] = own[-1].gpus_per_node if own else 0
    gpus = int(values["gpus_per_node"] or 0)
    processes = values.get("processes_per_node") or max(1, gpus)
    return JobResources(
        nodes=values["nodes"],
        gpus_per_node=gpus,
        gpu_type=values.get("gpu_type"),
        processes_per_node=processes if spreads else 1,
        cpus_per_process=values["cpus_per_process"],
        memory_gib=values["memory_gib"],
        hours=values["hours"],
        partition=values.get("partition") or (cluster.gpu_partition if gpus else cluster.cpu_partition),
        account=values.get("account"),
        qos=values.get("qos"),
        constraint=values.get("constraint"),
        sbatch=values.get("sbatch", ()),
        array=values.get("array", 1),
        array_at_once=values.get("array_at_once"),
    )


def check_cluster(workflow: LoadedWorkflow, cluster: ClusterConfig) -> None:
    """Refuse names that no stage has, and a global batch that the processes of a stage cannot share evenly."""
    problems = [
        *unknown_names(workflow.tree, "kinds", cluster.kinds, list(STAGES), "kinds of stage"),
        *unknown_names(workflow.tree, "stages", cluster.stages, list(workflow.values.stages), "stages"),
    ]
    found = {name: resources_of_stage(cluster, name, stage) for name, stage in workflow.values.stages.items()}
    for name, resources in found.items():
        problems += shape_problems(workflow.tree, name, workflow.values.stages[name], resources)
    raise_if_any(problems)
    check_batches(workflow, {name: resources.processes for name, resources in found.items()})


def unknown_names(tree: MappingNode, key: str, given: Mapping[str, Any], known: list[str], what: str) -> list[Problem]:
    """Entries of `cluster.kinds` or `cluster.stages` that name nothing."""
    section = node_at(tree, ("cluster", key))
    return [
        Problem.at(section.key_origin(name), f"cluster.{key}: no '{name}'{suggestion(name, known, what)}")
        for name in given
        if name not in known and isinstance(section, MappingNode)
    ]


def shape_problems(tree: MappingNode, name: str, stage: Stage, resources: JobResources) -> list[Problem]:
    """What is wrong with the processes of one stage."""
    problems = []
    if resources.gpus_per_node and resources.processes_per_node > resources.gpus_per_node:
        problems.append(
            Problem.at(
                place(tree, name).origin,
                f"stage '{name}': {resources.processes_per_node} processes a node share {resources.gpus_per_node} "
                "GPUs; give processes_per_node of at most gpus_per_node",
            )
        )
    if not stage.uses_processes and resources.nodes > 1:
        problems.append(
            Problem.at(
                place(tree, name).origin,
                f"stage '{name}' ({stage.stage}) works on one node, got {resources.nodes}; "
                + ("share its cases by `array`" if stage.work == "prediction" else "set nodes: 1 for it"),
            )
        )
    return problems


def place(tree: MappingNode, name: str, *keys: str) -> Node:
    """The node of a stage's value, or the nearest above it."""
    for depth in range(len(keys), -1, -1):
        node = node_at(tree, ("stages", name, *keys[:depth]))
        if node is not None:
            return node
    return tree
