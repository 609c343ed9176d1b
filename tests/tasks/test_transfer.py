import json
from pathlib import Path

import pytest
import torch

from medpipe.backbones.options import StunetOptions
from medpipe.backbones.registry import build_volume_backbone
from medpipe.tasks.masked_pretraining import build_masked_autoencoder
from medpipe.tasks.model_record import ModelRecord
from medpipe.tasks.options import MaskingConfig
from medpipe.tasks.segmentation_network import SegmentationNetwork
from medpipe.tasks.transfer import strip_prefixes, transfer, transfer_tensors
from medpipe.tasks.weights import save_model

TINY = StunetOptions(size="tiny", tiny_width=4)


def network(num_structures: int, width: int = 4) -> SegmentationNetwork:
    backbone = build_volume_backbone(StunetOptions(size="tiny", tiny_width=width))
    return SegmentationNetwork(backbone, num_structures=num_structures)


def test_all_but_heads_brings_everything_else(tmp_path: Path) -> None:
    source, target = network(5), network(2)
    heads = {name: tensor.clone() for name, tensor in target.state_dict().items() if name.startswith("heads.")}
    report = transfer_tensors(source.state_dict(), target, "all_but_heads", source="organs")
    assert report.fresh == tuple(heads)
    assert not report.shape_mismatch
    assert not report.missing
    for name, tensor in target.state_dict().items():
        assert torch.equal(tensor, heads[name] if name in heads else source.state_dict()[name])


@pytest.mark.parametrize("method", ["sparse", "dense"])
def test_the_pretrained_encoder_fits_the_segmentation_network(tmp_path: Path, method: str) -> None:
    source = build_masked_autoencoder(TINY, MaskingConfig(method=method, decoder_width=8))  # type: ignore[arg-type]
    record = ModelRecord(
        kind="masked_pretraining",
        medpipe_version="0.1.0",
        backbone=TINY,
        preprocessing={"intensity": {"mean_hu": 1.0}, "spacing_mm": [1.5, 1.5, 1.5]},
        patch_size=(32, 32, 32),
        step=1,
    )
    save_model(tmp_path, source, record, only="backbone.encoder.")
    target = network(2)
    report = transfer(
        tmp_path,
        target,
        "encoder",
        preprocessing={"intensity": {"mean_hu": 2.0}, "spacing_mm": (1.5, 1.5, 1.5)},
    )
    assert report.preprocessing_changes == ("intensity.mean_hu 1.0 -> 2.0",)
    assert report.preprocessing == record.preprocessing
    assert all(name.startswith("backbone.encoder.") for name in report.loaded)
    fresh_encoder = [name for name in report.fresh if name.startswith("backbone.encoder.")]
    # Of the sparse form's five levels the sixth is not among them.
    assert all(name.startswith("backbone.encoder.levels.5.") for name in fresh_encoder)
    assert bool(fresh_encoder) == (method == "sparse")
    for name in report.loaded:
        assert torch.equal(target.state_dict()[name], source.state_dict()[name])
    assert json.loads(json.dumps(report.as_json()))["select"] == "encoder"
    assert "loaded" in report.summary()
    assert "mean_hu" in report.summary()


def test_prefixes_of_wrappers_are_stripped() -> None:
    assert strip_prefixes("module._orig_mod.network.backbone.encoder.x") == "backbone.encoder.x"
    source, target = network(2), network(2)
    wrapped = {f"module._orig_mod.{name}": tensor for name, tensor in source.state_dict().items()}
    report = transfer_tensors(wrapped, target, "all", source="s")
    assert report.fresh == ()


def test_another_width_is_refused_with_every_tensor_and_nothing_is_loaded() -> None:
    target = network(2)
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    with pytest.raises(ValueError, match=r"(?s)organs: \d+ of \d+ tensors selected by weights: all.*\(8, 1, 3, 3, 3\)"):
        transfer_tensors(network(2, width=8).state_dict(), target, "all", source="organs")
    assert all(torch.equal(tensor, before[name]) for name, tensor in target.state_dict().items())


def test_foreign_names_and_an_empty_selection_are_refused() -> None:
    with pytest.raises(ValueError, match="not in the new network"):
        transfer_tensors({"stem.weight": torch.zeros(1)}, network(2), "all", source="s")
    with pytest.raises(ValueError, match="0 of 0 tensors"):
        transfer_tensors({"stem.weight": torch.zeros(1)}, network(2), "encoder", source="s")


def test_a_tenth_that_does_not_fit_is_loaded_without_and_listed() -> None:
    report = transfer_tensors(network(5).state_dict(), (target := network(2)), "all", source="s")
    assert len(report.shape_mismatch) == 8  # weight and bias of four heads
    assert report.shape_mismatch[0] == "heads.0.weight: (6, 4, 1, 1, 1) -> (3, 4, 1, 1, 1)"
    assert len(report.loaded) + 8 == len(target.state_dict())
