import json
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from medpipe.engine.executor import Selection, plan_run, run_workflow
from medpipe.engine.output import RunOutput
from medpipe.engine.run_directory import RunDirectory, RunInUse
from medpipe.engine.signals import StopFlag
from medpipe.engine.workflow import load_workflow
from medpipe.stages.stage import StopRequested


def run(chain: Path, *overrides: str, selection: Selection | None = None, stop: StopFlag | None = None) -> list[str]:
    """Run the chain in the folder beside it; the stages that worked."""
    folder = chain.parent / "run"
    calls = folder / "calls.txt"
    calls.unlink(missing_ok=True)
    workflow = load_workflow(str(chain), (), overrides)
    output = RunOutput(Console(quiet=True))
    run_workflow(workflow, RunDirectory(folder), selection or Selection(), output, stop or StopFlag(), ["run"])
    return calls.read_text().split() if calls.exists() else []


def words(chain: Path) -> str:
    return (chain.parent / "run" / "third" / "words.txt").read_text()


def test_stages_run_in_the_order_of_what_they_need(chain: Path) -> None:
    assert run(chain) == ["first", "second", "third"]
    assert words(chain) == "a\nb\nc\n"


def test_a_finished_run_does_nothing(chain: Path) -> None:
    run(chain)
    assert run(chain) == []


def test_a_changed_value_runs_its_stage_and_those_that_depend_on_it(chain: Path) -> None:
    run(chain)
    assert run(chain, "second.word=x") == ["second", "third"]
    assert words(chain) == "a\nx\nc\n"


def test_a_value_that_cannot_change_the_result_runs_nothing(chain: Path) -> None:
    run(chain)
    assert run(chain, "second.colour=red") == []


def test_a_raised_version_repeats_the_stage(chain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(chain)
    third = type(load_workflow(str(chain)).values.stages["third"])
    monkeypatch.setattr(third, "version", 2)
    assert run(chain) == ["first", "second", "third"]


def test_values_set_back_bring_the_earlier_result_back_without_work(chain: Path) -> None:
    run(chain)
    run(chain, "third.word=x")
    assert run(chain) == []
    assert words(chain) == "a\nb\nc\n"


def test_a_missing_output_is_made_again(chain: Path) -> None:
    run(chain)
    (chain.parent / "run" / "second" / "words.txt").unlink()
    assert run(chain) == ["second"]


def test_until_runs_what_the_stage_needs_and_no_more(chain: Path) -> None:
    assert run(chain, selection=Selection(until="second")) == ["first", "second"]


def test_only_is_refused_where_an_input_is_not_finished(chain: Path) -> None:
    with pytest.raises(ValueError, match="takes from second, not finished"):
        run(chain, selection=Selection(only="third"))
    run(chain, selection=Selection(until="second"))
    assert run(chain, selection=Selection(only="third")) == ["third"]


def test_force_repeats_the_stage_and_those_that_depend_on_it(chain: Path) -> None:
    run(chain)
    assert run(chain, selection=Selection(force=("second",))) == ["second", "third"]


def test_a_failed_stage_keeps_its_traceback_and_is_run_again(chain: Path) -> None:
    with pytest.raises(RuntimeError, match="told to fail"):
        run(chain, "second.fail=true")
    folder = chain.parent / "run"
    assert "told to fail" in (folder / "second" / "error.txt").read_text()
    assert json.loads((folder / "record.json").read_text())["sessions"][-1]["outcome"] == "failed"
    assert run(chain) == ["second", "third"]
    assert not (folder / "second" / "error.txt").exists()


def test_a_stop_ends_the_run_and_the_next_goes_on(chain: Path) -> None:
    import signal

    stop = StopFlag()
    stop.received = signal.SIGTERM
    with pytest.raises(StopRequested, match="first"):
        run(chain, stop=stop)
    record = json.loads((chain.parent / "run" / "record.json").read_text())
    assert record["sessions"][-1]["outcome"] == "stopped by SIGTERM"
    assert run(chain) == ["first", "second", "third"]


def test_the_ledger_holds_the_checksum_of_every_output(chain: Path) -> None:
    import hashlib

    run(chain)
    done = json.loads((chain.parent / "run" / "third" / "done.json").read_text())
    assert done["outputs"]["words.txt"]["sha256"] == hashlib.sha256(b"a\nb\nc\n").hexdigest()


def test_two_processes_cannot_work_in_one_run(chain: Path) -> None:
    folder = chain.parent / "run"
    holding = (
        "import sys, time, pathlib; from medpipe.engine.run_directory import RunDirectory\n"
        "with RunDirectory(pathlib.Path(sys.argv[1])).locked():\n    print('held', flush=True)\n    time.sleep(60)"
    )
    other = subprocess.Popen([sys.executable, "-c", holding, str(folder)], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(RunInUse, match="another medpipe works here"):
            run(chain)
    finally:
        other.kill()
        other.wait()
    assert run(chain) == ["first", "second", "third"]


def test_the_plan_says_what_would_happen(chain: Path) -> None:
    run(chain, selection=Selection(until="first"))
    directory = RunDirectory(chain.parent / "run")
    plans = plan_run(load_workflow(str(chain), (), ["second.word=x"]), directory, Selection())
    assert {plan.name: plan.state for plan in plans} == {"first": "done", "second": "new", "third": "new"}
