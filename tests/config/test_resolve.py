import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from medpipe.config.errors import ConfigError
from medpipe.config.resolve import resolve
from medpipe.config.show import render
from medpipe.config.tree import plain
from medpipe.config.validation import partial_problems, validate


def test_everything_is_applied_in_its_order(tmp_path: Path, toy: SimpleNamespace) -> None:
    """Workflow < overlay's defaults < overlay's stages < later overlay < command line; then the references."""
    (tmp_path / "w.yaml").write_text(toy.text.replace("seed: 3", "seed: '${env:SEED,3}'"))
    (tmp_path / "a.yaml").write_text(
        "defaults: {segmentation_training: {training: {num_steps: 150, learning_rate: 0.5}}}"
    )
    (tmp_path / "b.yaml").write_text("stages: {organs: {training: {learning_rate: 0.25}}}")
    tree = resolve(
        tmp_path / "w.yaml",
        [tmp_path / "a.yaml", tmp_path / "b.yaml"],
        ["organs.folds=${seed}"],
        kinds=toy.kinds,
        known_keys=toy.Workflow.model_fields,
        env={"SEED": "4"},
    )
    organs = validate(toy.Workflow, tree).stages["organs"]
    assert (organs.training.num_steps, organs.training.learning_rate, organs.folds) == (150, 0.25, 4)


def test_a_resolved_workflow_resolves_to_itself(tmp_path: Path, toy: SimpleNamespace) -> None:
    (tmp_path / "w.yaml").write_text(toy.text)
    tree = resolve(tmp_path / "w.yaml", kinds=toy.kinds)
    config = validate(toy.Workflow, tree)
    (tmp_path / "shown.yaml").write_text(render(tree, config))
    again = resolve(tmp_path / "shown.yaml", kinds=toy.kinds)
    assert validate(toy.Workflow, again) == config
    assert plain(resolve(tmp_path / "shown.yaml", kinds=None)) == config.model_dump(mode="json", by_alias=True)


def test_a_fault_in_an_overlay_names_the_overlay(tmp_path: Path, toy: SimpleNamespace) -> None:
    (tmp_path / "w.yaml").write_text(toy.text)
    (tmp_path / "o.yaml").write_text("defaults:\n  report:\n    reprot: html\n")
    with pytest.raises(ConfigError, match=r"o.yaml:3:5: unknown key 'reprot'; did you mean 'report'"):
        resolve(
            tmp_path / "w.yaml",
            [tmp_path / "o.yaml"],
            kinds=toy.kinds,
            check_defaults=lambda kind, values: (
                partial_problems(toy.Workflow, values) and partial_problems(_report(toy), values)
            ),
        )


def _report(toy: SimpleNamespace) -> type:
    stages = toy.Workflow.model_fields["stages"].annotation
    return stages.__args__[1].__origin__.__args__[2]


def test_the_package_needs_neither_torch_nor_numpy() -> None:
    modules = "resolve show schema validation"
    code = (
        "import sys\n"
        "for name in ('torch', 'numpy', 'pandas', 'monai'): sys.modules[name] = None\n"
        f"for name in '{modules}'.split(): __import__(f'medpipe.config.{{name}}')\n"
    )
    root = Path(__file__).resolve().parents[2]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root, timeout=60)
