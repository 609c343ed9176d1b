import pytest
from pydantic import ValidationError

from medpipe.tasks.options import LossConfig, MaskingConfig, PredictionConfig, TeacherConfig, TrainingConfig


def test_defaults_are_valid() -> None:
    assert TrainingConfig(num_steps=10).precision == "32"
    assert MaskingConfig().mask_ratio == 0.6
    assert PredictionConfig().mirror_axes == ()


@pytest.mark.parametrize(
    ("config", "values", "said"),
    [
        (LossConfig, {"dice_weight": 0.0, "cross_entropy_weight": 0.0}, "both 0"),
        (TrainingConfig, {"num_steps": 5, "warmup_steps": 5}, r"below num_steps \(5\)"),
        (TeacherConfig, {"decay": (0.9, 1.0)}, "below 1"),
        (MaskingConfig, {"method": "dense", "teacher": TeacherConfig()}, "method: sparse"),
    ],
)
def test_values_that_contradict_each_other_are_refused(config: type, values: dict, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        config(**values)
