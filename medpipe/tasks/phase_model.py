"""Phase networks on disk: weights.safetensors, which holds tensors and no code, and model.json beside it."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from medpipe.backbones.temporal_registry import TemporalBackboneConfig, build_temporal_backbone
from medpipe.config.base import Config
from medpipe.geometry.faults import DataFault
from medpipe.metrics.phases import PHASES
from medpipe.tasks.model_record import RECORD_FILE, WEIGHTS_FILE

if TYPE_CHECKING:
    from medpipe.tasks.phase_network import PhaseNetwork


class PhaseModelRecord(Config):
    """Everything needed to build a phase network again and to feed it as it was fed in training."""

    kind: Literal["phases"] = "phases"
    medpipe_version: str
    backbone: TemporalBackboneConfig
    phases: tuple[str, ...] = PHASES
    embeddings: dict[str, Any]  # the identity of the embeddings it was trained on
    dynamics: dict[str, Any]  # how phases follow each other in the training labels
    fold: int | None = None
    step: int
    training: dict[str, Any] = Field(default={}, description="facts for the reader: videos, best score")

    @property
    def input_dim(self) -> int:
        """Width of an embedding."""
        return int(self.embeddings["dim"])


def read_phase_record(folder: Path) -> PhaseModelRecord:
    """The record of a folder of weights. Raises DataFault: no such file, or one of another kind."""
    path = folder / RECORD_FILE
    if not path.is_file():
        raise DataFault(path, f"no such file; a folder of weights holds {RECORD_FILE} and {WEIGHTS_FILE}")
    try:
        return PhaseModelRecord.model_validate_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataFault(path, f"no record of a phase network: {error}") from None


def save_phase_model(folder: Path, network: "PhaseNetwork", record: PhaseModelRecord) -> None:
    """Write the weights, then the record: a folder with a record is whole."""
    from safetensors.torch import save_file

    from medpipe.geometry.atomic import written_beside

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    with written_beside(folder / WEIGHTS_FILE) as partial:
        save_file(tensors, partial, metadata={"kind": record.kind})
    with written_beside(folder / RECORD_FILE) as partial:
        partial.write_text(record.model_dump_json(indent=2) + "\n", encoding="utf-8")


def build_phase_network(backbone: Any, input_dim: int) -> "PhaseNetwork":
    """A fresh network over the nine phases."""
    from medpipe.tasks.phase_network import PhaseNetwork

    built = build_temporal_backbone(backbone, input_dim=input_dim, num_phases=len(PHASES))
    return PhaseNetwork(built, input_dim=input_dim)


def load_phase_model(folder: Path) -> "tuple[PhaseNetwork, PhaseModelRecord]":
    """The network of a folder of weights, in eval mode, and its record. Raises DataFault where they do not fit."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    record = read_phase_record(folder)
    network = build_phase_network(record.backbone, record.input_dim)
    path = folder / WEIGHTS_FILE
    if not path.is_file():
        raise DataFault(path, "no such file; run the stage that leaves it")
    try:
        network.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError) as error:
        raise DataFault(path, f"damaged, or does not fit {RECORD_FILE}: {error}") from None
    return network.eval(), record
