from pathlib import Path
from typing import Any

import pytest
import torch

from medpipe.backbones.options import StunetOptions
from medpipe.backbones.registry import build_volume_backbone
from medpipe.tasks.model_record import ModelRecord, read_record
from medpipe.tasks.segmentation_network import SegmentationNetwork
from medpipe.tasks.weights import load_model, load_tensors, save_model

TINY = StunetOptions(size="tiny", tiny_width=4)


def tiny_network(num_structures: int = 2) -> SegmentationNetwork:
    return SegmentationNetwork(build_volume_backbone(TINY), num_structures=num_structures, output="sigmoid")


def record(**values: Any) -> ModelRecord:
    plain = {
        "kind": "segmentation",
        "medpipe_version": "0.1.0",
        "backbone": TINY,
        "structures": ("bladder", "rectum"),
        "output": "sigmoid",
        "preprocessing": {"spacing_mm": [1.5, 1.5, 1.5]},
        "patch_size": (32, 32, 64),
        "step": 10,
    }
    return ModelRecord(**{**plain, **values})


def test_a_saved_network_comes_back_with_its_record(tmp_path: Path) -> None:
    network = tiny_network()
    save_model(tmp_path, network, record())
    loaded, its_record = load_model(tmp_path)
    assert its_record == record() == read_record(tmp_path)
    assert not loaded.training
    volume = torch.randn(1, 1, 32, 32, 64)
    with torch.no_grad():
        assert torch.equal(loaded(volume), network.eval()(volume))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.json", "weights.safetensors"]


def test_the_encoder_alone_can_be_handed_over(tmp_path: Path) -> None:
    save_model(
        tmp_path,
        tiny_network(),
        record(kind="masked_pretraining", output=None, structures=()),
        only="backbone.encoder.",
    )
    assert all(name.startswith("backbone.encoder.") for name in load_tensors(tmp_path))
    with pytest.raises(ValueError, match="kind 'masked_pretraining'; prediction needs"):
        load_model(tmp_path)


def test_missing_damaged_and_mismatched_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"model.json: no such file"):
        load_model(tmp_path)
    save_model(tmp_path, tiny_network(num_structures=3), record())
    with pytest.raises(ValueError, match=r"(?s)does not fit model.json.*heads"):
        load_model(tmp_path)
    path = tmp_path / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"weights.safetensors: damaged"):
        load_model(tmp_path)
