"""Causal networks frame by frame: each convolution keeps the last inputs that its taps can reach in a ring.

Plain numpy: a step is some fifty products of a few thousand numbers, for which a framework's overhead costs more than
the arithmetic. Memory is that of the rings, whatever the length of the video.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, final

import numpy as np

if TYPE_CHECKING:
    from torch import nn

Step = Callable[[np.ndarray], np.ndarray]


@final
class Ring:
    """A causal dilated convolution of one frame after another."""

    def __init__(self, convolution: "nn.Conv1d") -> None:
        weight = to_numpy(convolution.weight)  # (out, in, taps)
        out_channels, in_channels, taps = weight.shape
        self.dilation = convolution.dilation[0]
        self.length = (taps - 1) * self.dilation + 1
        # Rows of one product: tap by tap, the oldest first.
        self.matrix = np.ascontiguousarray(weight.transpose(2, 1, 0).reshape(taps * in_channels, out_channels))
        self.bias = to_numpy(convolution.bias)
        self.offsets = np.arange(taps) * self.dilation
        self.frames = np.zeros((self.length, in_channels), dtype=np.float32)
        self.next = 0

    def step(self, frame: np.ndarray) -> np.ndarray:
        """frame: (in,), the newest; the convolution's output there (out,)."""
        self.frames[self.next] = frame
        self.next = (self.next + 1) % self.length
        oldest = self.next  # after the newest comes the oldest that a tap reaches
        return self.frames[(oldest + self.offsets) % self.length].ravel() @ self.matrix + self.bias

    def reset(self) -> None:
        """Forget every frame."""
        self.frames[:] = 0
        self.next = 0

    @property
    def num_bytes(self) -> int:
        """Of the ring."""
        return self.frames.nbytes


@final
class Pointwise:
    """A convolution of one tap, or a linear layer: no memory."""

    def __init__(self, layer: "nn.Conv1d | nn.Linear") -> None:
        weight = to_numpy(layer.weight)
        self.matrix = np.ascontiguousarray(weight.reshape(weight.shape[0], -1).T)
        self.bias = to_numpy(layer.bias)

    def step(self, frame: np.ndarray) -> np.ndarray:
        """(in,) to (out,)."""
        return frame @ self.matrix + self.bias


@final
class Norm:
    """A LayerNorm over the last axis."""

    def __init__(self, layer: "nn.LayerNorm") -> None:
        self.weight, self.bias, self.eps = to_numpy(layer.weight), to_numpy(layer.bias), layer.eps
        self.share = np.full(self.weight.shape, 1 / len(self.weight), dtype=np.float32)

    def step(self, x: np.ndarray) -> np.ndarray:
        """(..., width) alike."""
        # Products with a constant vector: numpy's mean and variance cost five times as much on so few numbers.
        centred = x - (x @ self.share)[..., None]
        variance = (centred * centred) @ self.share
        return centred / np.sqrt(variance + self.eps)[..., None] * self.weight + self.bias


class Memory(Protocol):
    """What a stream keeps between frames."""

    def reset(self) -> None: ...

    @property
    def num_bytes(self) -> int: ...


@final
class Stream:
    """A causal network, frame by frame: `step` gives the logits that the offline form gives at the same place.

    lag   later frames that the network waits for: the logits of a step belong to the frame so many steps before
    """

    def __init__(self, step: Step, rings: Sequence[Memory], *, lag: int = 0, input_dim: int) -> None:
        self._step, self._rings, self.lag, self.input_dim = step, tuple(rings), lag, input_dim
        self.count = 0

    def step(self, embedding: np.ndarray) -> np.ndarray | None:
        """The newest embedding (D,) in; out the logits (phases,) of the frame `lag` steps before, if there is one."""
        if embedding.shape != (self.input_dim,):
            raise ValueError(f"frame {self.count}: the embedding is {embedding.shape}, expected ({self.input_dim},)")
        if not np.isfinite(embedding).all():
            raise ValueError(f"frame {self.count}: the embedding holds values that are not numbers")
        return self._advance(embedding.astype(np.float32, copy=False))

    def flush(self) -> list[np.ndarray]:
        """The logits of the last `lag` frames, once the video is over."""
        blank = np.zeros(self.input_dim, dtype=np.float32)
        answers = [self._advance(blank) for _ in range(self.lag)]
        return [answer for answer in answers if answer is not None]

    def _advance(self, embedding: np.ndarray) -> np.ndarray | None:
        logits = self._step(embedding)
        self.count += 1
        return logits if self.count > self.lag else None

    def reset(self) -> None:
        """Begin another video."""
        self.count = 0
        for ring in self._rings:
            ring.reset()

    @property
    def num_bytes(self) -> int:
        """What is kept between steps."""
        return sum(ring.num_bytes for ring in self._rings)


def to_numpy(tensor: Any) -> np.ndarray:
    """A parameter as float32 on the CPU."""
    return tensor.detach().float().cpu().numpy()
