"""TeCNO (Czempiel et al., 2020, arXiv:2003.10751): causal multi-stage dilated convolutions, after its description."""

from typing import cast, final

import numpy as np
from torch import Tensor, nn

from medpipe.backbones.streaming import Pointwise, Ring, Stream
from medpipe.backbones.temporal import DilatedLayer, DilatedStage, TemporalBackbone, mask_of
from medpipe.backbones.temporal_options import TecnoOptions


@final
class Tecno(TemporalBackbone):
    """Each stage after the first refines the probabilities of the one before."""

    def __init__(self, options: TecnoOptions, *, input_dim: int, num_phases: int) -> None:
        super().__init__()
        self.input_dim = input_dim
        self.stages = nn.ModuleList(
            DilatedStage(
                num_phases if number else input_dim,
                options.width,
                num_phases,
                layers=options.layers,
                dropout=options.dropout,
                causal=True,
            )
            for number in range(options.stages)
        )

    def forward(self, embeddings: Tensor, is_frame: Tensor) -> tuple[Tensor, ...]:
        mask = mask_of(is_frame, embeddings)
        x = embeddings.transpose(1, 2)
        logits = []
        for stage in self.stages:
            logits.append(stage(x, mask))
            x = logits[-1].softmax(dim=1) * mask
        return tuple(stage.transpose(1, 2) for stage in logits)

    def stream(self) -> Stream:
        stages = [StageStream(cast(DilatedStage, stage)) for stage in self.stages]

        def step(frame: np.ndarray) -> np.ndarray:
            logits = stages[0].step(frame)
            for stage in stages[1:]:
                odds = np.exp(logits - logits.max())
                logits = stage.step(odds / odds.sum())
            return logits

        return Stream(step, [ring for stage in stages for ring in stage.rings], input_dim=self.input_dim)


@final
class StageStream:
    """A causal DilatedStage, frame by frame."""

    def __init__(self, stage: DilatedStage) -> None:
        layers = [cast(DilatedLayer, layer) for layer in stage.layers]
        self.enter, self.leave = Pointwise(stage.enter), Pointwise(stage.leave)
        self.rings = [Ring(layer.dilated) for layer in layers]
        self.mixes = [Pointwise(layer.mix) for layer in layers]

    def step(self, frame: np.ndarray) -> np.ndarray:
        """(in,) to logits (outputs,)."""
        x = self.enter.step(frame)
        for ring, mix in zip(self.rings, self.mixes, strict=True):
            x = x + mix.step(np.maximum(ring.step(x), 0))
        return self.leave.step(x)
