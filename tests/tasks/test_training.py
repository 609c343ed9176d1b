"""What `fit` promises besides an exact resume, which test_resume.py shows."""

import os
import signal
from pathlib import Path
from typing import Any, ClassVar, final

import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from medpipe.geometry.faults import DataFault
from medpipe.tasks.checkpoints import load_state
from medpipe.tasks.loading import LoaderWorkerDied
from medpipe.tasks.options import TrainingConfig
from medpipe.tasks.schedules import schedule_factor
from medpipe.tasks.task import Task, build_optimiser, parameter_groups
from medpipe.tasks.totals import Totals
from medpipe.tasks.training import FitResult, fit


@final
class Line(Task):
    """y = 3 x - 1, learned."""

    best_metric: ClassVar[str] = "validation_score"
    best_is_highest: ClassVar[bool] = True

    def __init__(self) -> None:
        super().__init__(nn.Linear(1, 1))
        nn.init.zeros_(self.network.weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.network.bias)  # type: ignore[arg-type]

    def counts(self, batch: Tensor) -> Tensor:
        return torch.tensor([len(batch)])

    def part_loss(self, batch: Tensor, totals: Totals) -> Tensor:
        return (self.network(batch) - (3 * batch - 1)).square().sum() / totals.counts[0].float()


class Points:
    def __getitem__(self, index: int) -> Tensor:
        return torch.randn(1, generator=torch.Generator().manual_seed(index))


def config(**values: Any) -> TrainingConfig:
    plain = {"num_steps": 6, "learning_rate": 0.05, "schedule": "constant", "num_workers": 0, "accelerator": "cpu"}
    return TrainingConfig(**{**plain, "optimiser": "adamw", **values})


def never() -> bool:
    return False


def run(folder: Path, task: Task | None = None, data: Any = None, **options: Any) -> FitResult:
    settings = options.pop("config", None) or config()
    options = {"seed": 0, "should_stop": never, **options}
    return fit(task or Line(), data or Points(), settings, folder, **options)


def test_a_training_learns_reports_and_leaves_only_its_own_files(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    seen: list[int] = []
    task = Line()
    values = config(num_steps=200, batch_size=8, schedule="cosine", learning_rate=0.1)
    result = run(tmp_path, task, config=values, on_step=lambda step, figures: seen.append(step))
    assert result == FitResult(finished=True, step=200)
    assert task.network.weight.item() == pytest.approx(3, abs=0.05)  # type: ignore[union-attr]
    metrics = pd.read_csv(tmp_path / "metrics.csv")
    assert seen == metrics["step"].tolist() == list(range(1, 201))
    assert metrics["learning_rate"][150] == pytest.approx(0.1 * schedule_factor(150, values))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint.ckpt", "metrics.csv"]
    assert not Path("lightning_logs").exists()
    assert "".join(capfd.readouterr()) == ""


def test_a_finished_training_is_not_repeated(tmp_path: Path) -> None:
    first, again = Line(), Line()
    run(tmp_path, first)
    assert run(tmp_path, again, data=object()) == FitResult(finished=True, step=6)
    assert torch.equal(again.network.weight, first.network.weight)  # type: ignore[arg-type]


def test_other_values_are_refused_execution_values_are_not(tmp_path: Path) -> None:
    run(tmp_path)
    run(tmp_path, config=config(num_workers=1, save_every_steps=1))
    with pytest.raises(ValueError, match=r"learning_rate 0.05 -> 0.1"):
        run(tmp_path, config=config(learning_rate=0.1))
    assert run(tmp_path, config=config(num_steps=8), accept_changes=True).step == 8


def test_validation_runs_at_its_steps_and_the_best_weights_are_handed_over(tmp_path: Path) -> None:
    scores = {2: 0.5, 4: 0.9, 6: 0.7}
    weights: dict[int, Tensor] = {}
    task = Line()

    def validate(step: int) -> dict[str, float]:
        assert not task.training
        assert not torch.is_grad_enabled()
        weights[step] = task.network.weight.detach().clone()  # type: ignore[union-attr,operator]
        return {"validation_score": scores[step]}

    result = run(tmp_path, task, config=config(validate_every=2, keep="best"), validate=validate)
    assert result == FitResult(finished=True, step=6, best_step=4, best_score=0.9)
    assert torch.equal(task.network.weight, weights[4])  # type: ignore[arg-type]
    assert [path.name for path in tmp_path.glob("best*")] == ["best-00000004.ckpt"]
    assert pd.read_csv(tmp_path / "metrics.csv")["validation_score"].dropna().tolist() == [0.5, 0.9, 0.7]


def test_a_score_that_is_not_a_number_is_never_the_best(tmp_path: Path) -> None:
    result = run(tmp_path, validate=lambda step: {"validation_score": float("nan")})
    assert result.best_step is None


@pytest.mark.parametrize("stop_at", [4, 6])
def test_a_validation_that_a_stop_cut_off_is_made_up_for(tmp_path: Path, stop_at: int) -> None:
    values = config(validate_every=2, ema_decay=0.5)
    uncut, cut = tmp_path / "uncut", tmp_path / "cut"
    steps: list[int] = []

    def validate(step: int) -> dict[str, float] | None:
        steps.append(step)
        return None if steps.count(step) == 1 and step == stop_at else {"validation_score": float(step)}

    assert run(cut, config=values, validate=validate) == FitResult(False, stop_at, stop_at - 2, stop_at - 2.0)
    # Asked to stop again at once: nothing is lost.
    assert not run(cut, config=values, validate=validate, should_stop=lambda: True).finished
    assert run(cut, config=values, validate=validate) == FitResult(True, 6, 6, 6.0)
    run(uncut, config=values, validate=lambda step: {"validation_score": float(step)})
    assert (cut / "metrics.csv").read_text() == (uncut / "metrics.csv").read_text()
    ours, theirs = (load_state(folder / "checkpoint.ckpt") for folder in (cut, uncut))
    for part in ("weights", "average"):
        assert all(torch.equal(tensor, theirs[part][name]) for name, tensor in ours[part].items())


def test_a_stop_saves_at_the_step_boundary(tmp_path: Path) -> None:
    steps: list[int] = []
    result = run(tmp_path, on_step=lambda step, figures: steps.append(step), should_stop=lambda: len(steps) >= 3)
    assert result == FitResult(finished=False, step=3)
    assert load_state(tmp_path / "checkpoint.ckpt")["step"] == 3


def test_the_averaged_weights_are_handed_over_and_the_own_ones_resumed(tmp_path: Path) -> None:
    task = Line()
    run(tmp_path, task, config=config(ema_decay=0.9))
    state = load_state(tmp_path / "checkpoint.ckpt")
    assert torch.equal(task.network.weight, state["average"]["weight"])  # type: ignore[arg-type]
    assert not torch.equal(state["average"]["weight"], state["weights"]["network.weight"])


class Broken:
    def __getitem__(self, index: int) -> Tensor:
        raise DataFault("case_007.nii.gz", "cut short")


class Deadly:
    def __getitem__(self, index: int) -> Tensor:
        if index >= 4:
            os.kill(os.getpid(), signal.SIGKILL)
        return torch.zeros(1)


def test_a_fault_of_a_sample_comes_out_as_itself(tmp_path: Path) -> None:
    with pytest.raises(DataFault, match=r"case_007.nii.gz: cut short"):
        run(tmp_path, data=Broken(), config=config(num_workers=1))


def test_a_killed_worker_is_explained(tmp_path: Path) -> None:
    with pytest.raises(LoaderWorkerDied, match=r"num_workers \(now 1\)"):
        run(tmp_path, data=Deadly(), config=config(num_workers=1))


def test_a_loss_that_is_not_a_number_ends_the_training_with_advice(tmp_path: Path) -> None:
    class Bad:
        def __getitem__(self, index: int) -> Tensor:
            return torch.full((1,), float("nan") if index >= 6 else 1.0)

    with pytest.raises(FloatingPointError, match=r"loss of step 3 is nan; lower training.learning_rate"):
        run(tmp_path, data=Bad())


def test_signals_stay_with_the_caller(tmp_path: Path) -> None:
    received: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: received.append(number))
    try:
        own = signal.getsignal(signal.SIGTERM)

        def check(step: int, figures: dict[str, float]) -> None:
            assert signal.getsignal(signal.SIGTERM) is own
            if step == 2:
                os.kill(os.getpid(), signal.SIGTERM)

        result = run(tmp_path, on_step=check, should_stop=lambda: bool(received))
        assert result == FitResult(finished=False, step=2)
        assert signal.getsignal(signal.SIGTERM) is own
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_keyboard_interrupt_stays_one(tmp_path: Path) -> None:
    def interrupt(step: int, figures: dict[str, float]) -> None:
        raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, on_step=interrupt)
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("precision", ["bf16-mixed", "32"])
def test_gradients_are_clipped_and_precision_is_lightnings(tmp_path: Path, precision: str) -> None:
    task = Line()
    values = config(num_steps=1, optimiser="sgd", learning_rate=1.0, gradient_clip=1e-3, weight_decay=0.0)
    run(tmp_path, task, config=values.model_copy(update={"precision": precision}))
    moved = torch.stack([p.detach().flatten() for p in task.network.parameters()]).norm()
    # Nesterov's first step is (1 + 0.99) times the clipped gradient.
    assert moved.item() == pytest.approx(1.99e-3, rel=1e-2)


def test_encoder_learns_slower_and_vectors_do_not_decay() -> None:
    network = nn.ModuleDict({"backbone": nn.ModuleDict({"encoder": nn.Linear(2, 2), "decoder": nn.Linear(2, 2)})})
    groups = parameter_groups(network, config(encoder_learning_rate_factor=0.1, weight_decay=0.5))
    assert [(group["factor"], group["weight_decay"], len(group["params"])) for group in groups] == [
        (1.0, 0.0, 1),
        (1.0, 0.5, 1),
        (0.1, 0.0, 1),
        (0.1, 0.5, 1),
    ]
    assert isinstance(build_optimiser(network, config()), torch.optim.AdamW)
    assert isinstance(build_optimiser(network, config(optimiser="sgd")), torch.optim.SGD)
