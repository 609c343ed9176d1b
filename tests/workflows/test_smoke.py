"""Every workflow, end to end, on the smallest phantoms: it runs, it leaves its report, it is not run twice."""

import csv
import json
import time

import pytest

from medpipe.config.share import share_folder

pytestmark = pytest.mark.long

WORKFLOWS = sorted(path.stem for path in share_folder("workflows").glob("*.yaml"))


@pytest.fixture(scope="module", params=WORKFLOWS)
def finished(request: pytest.FixtureRequest, smoke_run):
    """A finished run of each workflow: its name, the folder it was run in, its arguments, what it printed."""
    return smoke_run(request.param)


def test_the_run_leaves_a_report_and_says_where(finished) -> None:
    workflow, folder, _, printed = finished
    report = folder / "runs" / workflow / "smoke" / "report.html"
    assert report.is_file()
    assert str(report.relative_to(folder)) in printed


def test_a_finished_run_does_nothing_and_says_so_within_two_seconds(finished, medpipe) -> None:
    _, folder, arguments, _ = finished
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        again = medpipe(folder, *arguments)
        seconds.append(time.perf_counter() - began)
        assert again.returncode == 0
        assert "nothing to do" in again.stdout
    assert min(seconds) < 2.0


def test_the_record_and_the_ledger_tell_what_was_done(finished) -> None:
    workflow, folder, _, _ = finished
    run = folder / "runs" / workflow / "smoke"
    record = json.loads((run / "record.json").read_text())
    assert record["sessions"][-1]["outcome"] == "done"
    assert {"medpipe", "torch", "monai"} <= set(record["sessions"][-1]["versions"])
    for stage in (path for path in run.iterdir() if path.is_dir() and path.name != "sessions"):
        assert json.loads((stage / "done.json").read_text())["outputs"], stage.name


def test_every_held_out_case_is_scored_by_every_arm(finished) -> None:
    workflow, folder, _, _ = finished
    path = folder / "runs" / workflow / "smoke" / "evaluate" / "scores.csv"
    if workflow in ("ct_pretraining", "colonoscopy_vqa", "visual_question_answering"):  # the latter: test_questions.py
        assert not path.exists()
        return
    with path.open() as file:
        rows = list(csv.DictReader(file))
    keys = {(row["model"], row.get("labelled_share")) for row in rows}
    cases = {(row.get("case_id") or row["video_id"], row.get("structure")) for row in rows}
    assert len(rows) == len(keys) * len(cases)
    if workflow == "gynecologic_brachytherapy_ablation":
        assert len(keys) == 9 * 2


def test_reading_the_kept_workflow_back_gives_the_same_one(finished, medpipe) -> None:
    workflow, folder, _, _ = finished
    kept = folder / "runs" / workflow / "smoke" / "workflow.yaml"
    again = medpipe(folder, "run", str(kept), "--name", "smoke", "--dry-run")
    assert again.returncode == 0, again.stderr
    lines = [line for line in again.stdout.splitlines() if "): " in line]
    assert lines
    assert all("finished, would be skipped" in line for line in lines)
