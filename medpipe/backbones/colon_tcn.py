"""ColonTCN (Biffi et al., 2025, arXiv:2502.03430), offline and causal, after its description."""

from typing import cast, final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from medpipe.backbones.streaming import Pointwise, Ring, Stream
from medpipe.backbones.temporal import TemporalBackbone, TimeConv, mask_of
from medpipe.backbones.temporal_options import ColonTcnOptions


class Block(nn.Module):
    """relu(x + two weight-normed dilated convolutions of x, each with relu and dropout)."""

    def __init__(self, options: ColonTcnOptions, dilation: int) -> None:
        super().__init__()
        self.first = self._convolution(options, dilation)
        self.second = self._convolution(options, dilation)
        self.dropout = nn.Dropout(options.dropout)

    @staticmethod
    def _convolution(options: ColonTcnOptions, dilation: int) -> TimeConv:
        width = options.width
        convolution = TimeConv(width, width, options.kernel_size, dilation=dilation, causal=options.causal)
        return cast(TimeConv, weight_norm(convolution))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x: (B, C, T), zero where mask (B, 1, T) is."""
        # The published block masks its end alone: what the first convolution's bias makes of padding leaks back
        # through the second, 13 % of the logits' deviation at the start of training.
        hidden = self.dropout(torch.relu(self.first(x))) * mask
        hidden = self.dropout(torch.relu(self.second(hidden)))
        return torch.relu(x + hidden) * mask


@final
class ColonTcn(TemporalBackbone):
    """One stage; with `lag`, a causal network whose answer for a frame comes `lag` steps later."""

    def __init__(self, options: ColonTcnOptions, *, input_dim: int, num_phases: int) -> None:
        super().__init__()
        self.lag = options.lag
        self.is_causal = options.causal
        self.input_dim = input_dim
        self.enter = TimeConv(input_dim, options.width, 1)
        self.blocks = nn.ModuleList(Block(options, 2**level) for level in range(options.blocks))
        self.leave = TimeConv(options.width, num_phases, 1)

    def forward(self, embeddings: Tensor, is_frame: Tensor) -> tuple[Tensor, ...]:
        mask = mask_of(is_frame, embeddings)
        frames = embeddings.transpose(1, 2)
        if self.lag:
            frames = frames * mask
            # The network runs on for `lag` steps of nothing: they count as frames, for the alone video and the padded.
            frames = F.pad(frames, (0, self.lag))
            mask = F.max_pool1d(F.pad(mask, (self.lag, self.lag)), self.lag + 1, stride=1)
        x = torch.relu(self.enter(frames)) * mask
        for block in self.blocks:
            x = block(x, mask)
        return (self.leave(x)[..., self.lag :].transpose(1, 2),)

    def stream(self) -> Stream:
        if not self.is_causal:
            return super().stream()
        blocks = [cast(Block, block) for block in self.blocks]
        rings = [(Ring(block.first), Ring(block.second)) for block in blocks]
        enter, leave = Pointwise(self.enter), Pointwise(self.leave)

        def step(frame: np.ndarray) -> np.ndarray:
            x = np.maximum(enter.step(frame), 0)
            for first, second in rings:
                hidden = np.maximum(second.step(np.maximum(first.step(x), 0)), 0)
                x = np.maximum(x + hidden, 0)
            return leave.step(x)

        return Stream(step, [ring for pair in rings for ring in pair], lag=self.lag, input_dim=self.input_dim)
