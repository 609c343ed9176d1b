"""MS-TCN++ (Li et al., 2020, arXiv:2006.09220), after its description."""

from typing import final

import torch
from torch import Tensor, nn

from medpipe.backbones.temporal import DilatedStage, TemporalBackbone, TimeConv, mask_of
from medpipe.backbones.temporal_options import MsTcnOptions


class DualDilatedLayer(nn.Module):
    """x + dropout(relu(1x1 of two dilated convolutions of x, one widening and one narrowing with depth))."""

    def __init__(self, width: int, *, wide: int, narrow: int, dropout: float) -> None:
        super().__init__()
        self.wide = TimeConv(width, width, 3, dilation=wide)
        self.narrow = TimeConv(width, width, 3, dilation=narrow)
        self.mix = TimeConv(2 * width, width, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x: (B, C, T), zero where mask (B, 1, T) is."""
        both = self.mix(torch.cat([self.wide(x), self.narrow(x)], dim=1))
        return (x + self.dropout(torch.relu(both))) * mask


@final
class MsTcn(TemporalBackbone):
    """A first stage of dual dilated layers; each further one refines the probabilities of the one before."""

    def __init__(self, options: MsTcnOptions, *, input_dim: int, num_phases: int) -> None:
        super().__init__()
        width, depth = options.width, options.layers
        self.enter = TimeConv(input_dim, width, 1)
        self.layers = nn.ModuleList(
            DualDilatedLayer(width, wide=2 ** (depth - 1 - level), narrow=2**level, dropout=options.dropout)
            for level in range(depth)
        )
        self.leave = TimeConv(width, num_phases, 1)
        self.refinements = nn.ModuleList(
            DilatedStage(
                num_phases, width, num_phases, layers=options.refinement_layers, dropout=options.dropout, causal=False
            )
            for _ in range(options.refinement_stages)
        )

    def forward(self, embeddings: Tensor, is_frame: Tensor) -> tuple[Tensor, ...]:
        mask = mask_of(is_frame, embeddings)
        x = self.enter(embeddings.transpose(1, 2)) * mask
        for layer in self.layers:
            x = layer(x, mask)
        logits = [self.leave(x)]
        for refinement in self.refinements:
            logits.append(refinement(logits[-1].softmax(dim=1) * mask, mask))
        return tuple(stage.transpose(1, 2) for stage in logits)
