from pathlib import Path

from medpipe.tasks.metrics_file import MetricsFile


def lines(folder: Path) -> list[str]:
    return (folder / "metrics.csv").read_text().splitlines()


def test_rows_are_on_disk_as_they_are_added_and_new_columns_may_come(tmp_path: Path) -> None:
    metrics = MetricsFile(tmp_path, 0)
    metrics.add(1, {"loss": 0.5, "learning_rate": 0.1})
    assert lines(tmp_path) == ["step,loss,learning_rate", "1,0.5,0.1"]
    metrics.add(2, {"loss": 0.25, "learning_rate": 0.1, "validation_dice": 0.75})
    metrics.add(3, {"loss": 0.125, "learning_rate": 0.1})
    metrics.close()
    assert lines(tmp_path) == [
        "step,loss,learning_rate,validation_dice",
        "1,0.5,0.1,",
        "2,0.25,0.1,0.75",
        "3,0.125,0.1,",
    ]


def test_rows_after_the_resumed_step_and_half_rows_are_cut_off(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("step,loss,learning_rate,validation_dice\n1,1,1,\n2,1,1,0.5\n13,1,1,\n1")
    metrics = MetricsFile(tmp_path, 2)
    metrics.add(3, {"loss": 2.0, "learning_rate": 1.0})
    metrics.close()
    assert lines(tmp_path) == ["step,loss,learning_rate,validation_dice", "1,1,1,", "2,1,1,0.5", "3,2.0,1.0,"]


def test_a_new_training_starts_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("step,loss,learning_rate\n1,1,1\n")
    MetricsFile(tmp_path, 0).close()
    assert lines(tmp_path) == ["step,loss,learning_rate"]
