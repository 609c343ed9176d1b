"""What every temporal backbone promises, and the convolutions along time that they share.

Padding must not leak: a video alone and the same video in a padded batch have equal logits. Hence every layer that
looks at neighbours sees zeros where `is_frame` is False, exactly what it sees beyond the end of a video alone.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medpipe.backbones.streaming import Stream


class TemporalBackbone(nn.Module, ABC):
    """Abstract. Embeddings (B, T, D) of frames to logits (B, T, phases), one for each of its stages, the answer last.

    is_frame: (B, T) bool, False where a shorter video is padded. Logits there mean nothing.
    """

    @abstractmethod
    def forward(self, embeddings: Tensor, is_frame: Tensor) -> tuple[Tensor, ...]: ...

    def stream(self) -> Stream:
        """The network frame by frame with constant memory, on its present weights; only of causal ones."""
        raise ValueError(
            f"{type(self).__name__} looks at later frames and cannot run live; train a causal one, such as "
            "{name: colon_tcn, causal: true} or {name: tecno}"
        )


class TimeConv(nn.Conv1d):
    """A dilated convolution along time that keeps the length: centred, or causal (looking back alone)."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, *, dilation: int = 1, causal: bool = False
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, dilation=dilation)
        self.causal = causal
        reach = dilation * (kernel_size - 1)
        self.reach = (reach, 0) if causal else (reach // 2, reach - reach // 2)

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, T) to (B, C', T)."""
        if self.kernel_size[0] == 1:
            # A product reads a transposed view as it is; a convolution would copy 442 MB of a 3-hour video's input.
            bias = self.bias if self.bias is not None else self.weight.new_zeros(self.out_channels)
            return torch.matmul(self.weight[..., 0], input) + bias[:, None]
        # Taps that lie beyond the video for every frame read zeros alone: leaving them out saves most of the
        # deepest blocks, whose dilation is longer than the video.
        if max(self.reach) >= input.shape[-1]:
            return self._without_far_taps(input)
        return F.conv1d(F.pad(input, self.reach), self.weight, self.bias, dilation=self.dilation)

    def _without_far_taps(self, input: Tensor) -> Tensor:
        """The same with the taps that can reach a frame."""
        length, step = input.shape[-1], self.dilation[0]
        offsets = [tap * step - self.reach[0] for tap in range(self.kernel_size[0])]
        near = [tap for tap, offset in enumerate(offsets) if abs(offset) < length]
        first, last = offsets[near[0]], offsets[near[-1]]
        return F.conv1d(
            F.pad(input, (-first, last)), self.weight[..., near[0] : near[-1] + 1], self.bias, dilation=self.dilation
        )


class DilatedLayer(nn.Module):
    """The layer of MS-TCN: x + dropout(1x1(relu(dilated 3-tap convolution of x)))."""

    def __init__(self, width: int, *, dilation: int, dropout: float, causal: bool) -> None:
        super().__init__()
        self.dilated = TimeConv(width, width, 3, dilation=dilation, causal=causal)
        self.mix = TimeConv(width, width, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x: (B, C, T), zero where mask (B, 1, T) is."""
        return (x + self.dropout(self.mix(torch.relu(self.dilated(x))))) * mask


class DilatedStage(nn.Module):
    """Layers whose dilation doubles, between two 1x1 convolutions: one stage of MS-TCN or TeCNO."""

    def __init__(
        self, in_channels: int, width: int, num_outputs: int, *, layers: int, dropout: float, causal: bool
    ) -> None:
        super().__init__()
        self.enter = TimeConv(in_channels, width, 1)
        self.layers = nn.ModuleList(
            DilatedLayer(width, dilation=2**level, dropout=dropout, causal=causal) for level in range(layers)
        )
        self.leave = TimeConv(width, num_outputs, 1)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(B, C, T) to logits (B, outputs, T)."""
        x = self.enter(x) * mask
        for layer in self.layers:
            x = layer(x, mask)
        return self.leave(x)


def mask_of(is_frame: Tensor, like: Tensor) -> Tensor:
    """is_frame (B, T) as a factor (B, 1, T) in the type of `like`."""
    return is_frame.unsqueeze(1).to(like.dtype)
