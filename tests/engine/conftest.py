"""A kind of stage that only writes a file, for tests of the engine alone; the real kinds run in tests/workflows."""

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

import pytest
from pydantic import Field

from medpipe.config.base import StageRef, execution
from medpipe.engine import workflow as workflow_module
from medpipe.stages.stage import Stage, StageRun
from medpipe.stages.table import STAGES


class Writing(Stage):
    """Appends its word to what the stage before left; `stop` and `fail` act once a file of that name is there."""

    version: ClassVar[int] = 1

    stage: Literal["writing"]
    word: str
    after: StageRef | None = None
    colour: str = execution("none")
    fail: bool = execution(False)
    length: int = Field(1, ge=1)

    def run(self, run: StageRun) -> None:
        with (run.folder.parent / "calls.txt").open("a") as calls:
            calls.write(f"{run.name}\n")
        run.stop_if_asked()
        if self.fail:
            raise RuntimeError("told to fail")
        before = (run.folder_of(self.after) / "words.txt").read_text() if self.after else ""
        run.path("words.txt").write_text(before + self.word * self.length + "\n")


@pytest.fixture
def writing_stages(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The table of stages holds `writing` beside the real kinds."""
    classes = {**workflow_module.stage_classes(), "writing": Writing}
    monkeypatch.setitem(STAGES, "writing", "tests: Writing")
    monkeypatch.setattr(workflow_module, "stage_classes", lambda: classes)
    workflow_module.workflow_model.cache_clear()
    yield
    workflow_module.workflow_model.cache_clear()


@pytest.fixture
def chain(tmp_path: Path, writing_stages: None) -> Path:
    """A workflow of three stages, the last of which takes from both others."""
    path = tmp_path / "chain.yaml"
    path.write_text(
        "workflow: chain\n"
        "stages:\n"
        "  third: {stage: writing, word: c, after: {from: second}}\n"
        "  first: {stage: writing, word: a}\n"
        "  second: {stage: writing, word: b, after: {from: first}}\n"
    )
    return path
