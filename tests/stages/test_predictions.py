from pathlib import Path

import numpy as np
import pytest

from medpipe.geometry.faults import DataFault
from medpipe.geometry.volume import LabelMap, MaskStack
from medpipe.stages.predictions import (
    PredictedModel,
    Predictions,
    case_path,
    prediction_of,
    read_predictions,
    write_prediction,
    write_predictions,
)

STRUCTURES = ("bladder", "rectum")


def model(output: str) -> PredictedModel:
    return PredictedModel("full", "brachytherapy", 1.0, "predictions/full", output, STRUCTURES, 1)  # type: ignore[arg-type]


def masks() -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.random((2, 4, 5, 6)) > 0.5


def test_overlapping_masks_come_back_as_they_were(tmp_path: Path) -> None:
    path = case_path(tmp_path, model("sigmoid"), "case_1")
    write_prediction(path, MaskStack(masks(), np.diag([3.0, 1.0, 1.0, 1.0]), STRUCTURES))
    found = prediction_of(tmp_path, model("sigmoid"), "case_1").masks
    assert all(np.array_equal(found[name], mask) for name, mask in zip(STRUCTURES, masks(), strict=True))


def test_a_label_map_comes_back_as_one_mask_a_structure(tmp_path: Path) -> None:
    labels = np.random.default_rng(0).integers(0, 3, (4, 5, 6)).astype(np.uint8)
    write_prediction(case_path(tmp_path, model("softmax"), "case_1"), LabelMap(labels, np.eye(4)))
    found = prediction_of(tmp_path, model("softmax"), "case_1").masks
    assert np.array_equal(found["bladder"], labels == 1)
    assert np.array_equal(found["rectum"], labels == 2)


def test_a_missing_prediction_names_file_model_and_case(tmp_path: Path) -> None:
    with pytest.raises(DataFault, match=r"case_1.*no prediction of full for case case_1"):
        prediction_of(tmp_path, model("softmax"), "case_1")


def test_what_was_predicted_is_read_back(tmp_path: Path) -> None:
    predictions = Predictions((model("sigmoid"), model("softmax")), '{"manifest": "x"}')
    write_predictions(tmp_path, predictions)
    assert read_predictions(tmp_path) == predictions
