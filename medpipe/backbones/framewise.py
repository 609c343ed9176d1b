"""Each frame by itself: the baseline that has no context."""

from typing import final

import numpy as np
import torch
from torch import Tensor, nn

from medpipe.backbones.streaming import Pointwise, Stream
from medpipe.backbones.temporal import TemporalBackbone
from medpipe.backbones.temporal_options import FramewiseOptions


@final
class Framewise(TemporalBackbone):
    """One hidden layer."""

    def __init__(self, options: FramewiseOptions, *, input_dim: int, num_phases: int) -> None:
        super().__init__()
        self.input_dim = input_dim
        self.hidden = nn.Linear(input_dim, options.width)
        self.dropout = nn.Dropout(options.dropout)
        self.leave = nn.Linear(options.width, num_phases)

    def forward(self, embeddings: Tensor, is_frame: Tensor) -> tuple[Tensor, ...]:
        return (self.leave(self.dropout(torch.relu(self.hidden(embeddings)))),)

    def stream(self) -> Stream:
        hidden, leave = Pointwise(self.hidden), Pointwise(self.leave)

        def step(frame: np.ndarray) -> np.ndarray:
            return leave.step(np.maximum(hidden.step(frame), 0))

        return Stream(step, [], input_dim=self.input_dim)
