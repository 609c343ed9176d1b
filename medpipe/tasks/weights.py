"""Weights to hand over: weights.safetensors, which holds tensors and no code, and model.json beside it."""

import os
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from medpipe.backbones.registry import build_volume_backbone
from medpipe.geometry.atomic import written_beside
from medpipe.tasks.model_record import RECORD_FILE, WEIGHTS_FILE, ModelRecord, read_record
from medpipe.tasks.segmentation_network import SegmentationNetwork


def save_model(folder: Path, network: nn.Module, record: ModelRecord, *, only: str = "") -> None:
    """Write the tensors of `network` whose names start with `only`, and the record.

    `only="backbone.encoder."` hands over the encoder alone, as masked pretraining does.
    """
    tensors = {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in network.state_dict().items()
        if name.startswith(only)
    }
    assert tensors, f"no tensor starts with {only!r}"
    with written_beside(folder / WEIGHTS_FILE) as partial:
        save_file(tensors, partial, metadata={"kind": record.kind})
        os.chmod(partial, 0o644)  # safetensors makes files that only their owner reads; these are handed over
    with written_beside(folder / RECORD_FILE) as partial:
        partial.write_text(record.model_dump_json(indent=2) + "\n", encoding="utf-8")


def load_tensors(folder: Path) -> dict[str, Tensor]:
    """The tensors of a folder of weights. Raises ValueError: missing or damaged."""
    path = folder / WEIGHTS_FILE
    if not path.is_file():
        raise ValueError(f"{path}: no such file; run the stage that leaves it")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path}: damaged ({error}); run the stage that leaves it again") from error


def load_model(folder: Path) -> tuple[SegmentationNetwork, ModelRecord]:
    """The segmentation network of a folder of weights, in eval mode, and its record.

    Raises ValueError: no weights, weights of another kind, or tensors that do not fit the record.
    """
    record = read_record(folder)
    if record.kind != "segmentation" or record.output is None:
        raise ValueError(
            f"{folder}: holds a model of kind {record.kind!r}; prediction needs one of kind 'segmentation'"
        )
    network = SegmentationNetwork(
        build_volume_backbone(record.backbone, in_channels=record.in_channels),
        num_structures=len(record.structures),
        output=record.output,
        deep_supervision=record.deep_supervision,
    )
    try:
        network.load_state_dict(load_tensors(folder))
    except RuntimeError as error:
        raise ValueError(f"{folder}: {WEIGHTS_FILE} does not fit {RECORD_FILE}: {error}") from error
    return network.eval(), record
