import pytest

from medpipe.tasks.options import TrainingConfig
from medpipe.tasks.schedules import schedule_factor


def factors(**values: object) -> list[float]:
    config = TrainingConfig(num_steps=10, **values)  # type: ignore[arg-type]
    return [schedule_factor(step, config) for step in range(10)]


def test_warm_up_rises_linearly_to_the_full_rate_and_the_schedule_starts_there() -> None:
    assert factors(schedule="poly", warmup_steps=4)[:5] == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])


def test_poly_and_cosine_by_their_formulas() -> None:
    assert factors(schedule="poly")[5] == pytest.approx(0.5**0.9)
    assert factors(schedule="cosine")[5] == pytest.approx(0.5)
    assert factors(schedule="constant") == [1.0] * 10


def test_no_step_has_rate_zero() -> None:
    assert min(factors(schedule="cosine", warmup_steps=3)) > 0
