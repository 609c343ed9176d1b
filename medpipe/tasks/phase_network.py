"""Phases from the embeddings of a video: what is trained, handed over and predicted with. Free of Lightning."""

from typing import TYPE_CHECKING, final

import numpy as np
import torch
from torch import Tensor, nn

from medpipe.backbones.streaming import Stream
from medpipe.backbones.temporal import TemporalBackbone

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


@final
class PhaseNetwork(nn.Module):
    """A temporal backbone behind a fixed standardisation of the embeddings; frames that are not valid enter as zeros.

    mean, scale: (D,) of the training frames, kept with the weights; 0 and 1 leave embeddings as they are.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, backbone: TemporalBackbone, *, input_dim: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.register_buffer("mean", torch.zeros(input_dim))
        self.register_buffer("scale", torch.ones(input_dim))

    def standardise_by(self, mean: "ArrayLike", sd: "ArrayLike") -> None:
        """Set the standardisation; components that never vary are left at zero."""
        deviation = torch.as_tensor(np.asarray(sd), dtype=torch.float32)
        self.mean.copy_(torch.as_tensor(np.asarray(mean), dtype=torch.float32))
        self.scale.copy_(torch.where(deviation > 1e-6, 1 / deviation.clamp(min=1e-6), 0.0))

    def standardised(self, embeddings: Tensor, is_valid: Tensor) -> Tensor:
        """(B, T, D), zero where a frame is missing."""
        # In place: of a 3-hour video each copy more would be 442 MB.
        return (embeddings - self.mean).mul_(self.scale).masked_fill_(~is_valid.unsqueeze(-1), 0.0)

    def forward(self, embeddings: Tensor, is_frame: Tensor, is_valid: Tensor) -> tuple[Tensor, ...]:
        """Logits (B, T, phases) of every stage, the answer last. is_valid: (B, T), False where a frame is missing."""
        stages = self.backbone(self.standardised(embeddings, is_valid & is_frame), is_frame)
        return tuple(logits.clone() for logits in stages)  # some are views, of which FSDP warns that it may lose them

    def stream(self) -> "PhaseStream":
        """The network live; raises ValueError where it looks at later frames."""
        return PhaseStream(self.backbone.stream(), self.mean.cpu().numpy(), self.scale.cpu().numpy())


@final
class PhaseStream:
    """A causal network frame by frame; None in place of an embedding stands for a frame that was missed."""

    def __init__(self, stream: Stream, mean: np.ndarray, scale: np.ndarray) -> None:
        self.stream, self.mean, self.scale = stream, mean, scale
        self.blank = np.zeros(len(mean), dtype=np.float32)

    @property
    def lag(self) -> int:
        """Steps between a frame and its answer."""
        return self.stream.lag

    def step(self, embedding: np.ndarray | None) -> np.ndarray | None:
        """Logits (phases,) of the frame `lag` steps before the newest; None before there is one."""
        return self.stream.step(self.blank if embedding is None else (embedding - self.mean) * self.scale)

    def flush(self) -> list[np.ndarray]:
        """The logits of the last `lag` frames."""
        return self.stream.flush()


def predict_video(network: PhaseNetwork, embeddings: np.ndarray, is_valid: np.ndarray) -> np.ndarray:
    """Probabilities (T, phases) float32 of one video's embeddings (T, D)."""
    device = network.mean.device
    frames = torch.as_tensor(np.asarray(embeddings, dtype=np.float32), device=device)[None]
    valid = torch.as_tensor(is_valid, device=device)[None]
    with torch.inference_mode():
        logits = network.eval()(frames, torch.ones_like(valid), valid)[-1]
    return logits[0].float().softmax(dim=-1).cpu().numpy()
