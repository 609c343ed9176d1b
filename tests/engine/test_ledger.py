from pathlib import Path

from medpipe.engine.ledger import StageLedger


def worked(ledger: StageLedger, fingerprint: str, text: str) -> None:
    ledger.begin(fingerprint, {"started": "now"})
    (ledger.folder / "output.txt").write_text(text)
    ledger.finish(fingerprint, {})


def test_a_stage_goes_from_new_to_begun_to_done(tmp_path: Path) -> None:
    ledger = StageLedger(tmp_path, "one")
    assert ledger.state("f") == "new"
    ledger.begin("f", {})
    assert ledger.state("f") == "begun"
    ledger.finish("f", {})
    assert ledger.state("f") == "done"
    assert ledger.state("g") == "changed"


def test_what_a_killed_run_left_is_gone_on_with_only_for_the_same_values(tmp_path: Path) -> None:
    ledger = StageLedger(tmp_path, "one")
    ledger.begin("f", {})
    (ledger.folder / "checkpoint.ckpt").write_text("half")
    assert ledger.begin("f", {}) == "begun"
    assert (ledger.folder / "checkpoint.ckpt").exists()
    assert ledger.begin("g", {}) == "new"
    assert not (ledger.folder / "checkpoint.ckpt").exists()
    assert (tmp_path / "superseded" / "one-f" / "checkpoint.ckpt").exists()


def test_earlier_values_bring_their_folder_back(tmp_path: Path) -> None:
    ledger = StageLedger(tmp_path, "one")
    worked(ledger, "f", "of f")
    worked(ledger, "g", "of g")
    assert ledger.begin("f", {}) == "done"
    assert (ledger.folder / "output.txt").read_text() == "of f"


def test_an_output_of_another_size_is_noticed(tmp_path: Path) -> None:
    ledger = StageLedger(tmp_path, "one")
    worked(ledger, "f", "whole")
    (ledger.folder / "output.txt").write_text("half of it")
    assert ledger.state("f") == "damaged"
    assert ledger.damaged() == "output.txt"
    ledger.begin("f", {})
    assert ledger.state("f") == "begun"


def test_discarding_takes_every_result_of_these_values(tmp_path: Path) -> None:
    ledger = StageLedger(tmp_path, "one")
    worked(ledger, "f", "of f")
    ledger.discard("f")
    assert ledger.begin("f", {}) == "new"


def test_starts_are_counted(tmp_path: Path) -> None:
    ledger = StageLedger(tmp_path, "one")
    for start in range(3):
        ledger.begin("f", {"started": str(start)})
    ledger.finish("f", {"seconds": 1})
    assert [entry["started"] for entry in ledger.done()["starts"]] == ["0", "1", "2"]
