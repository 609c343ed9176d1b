"""The exponential moving average of a network's weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import final

import torch
from torch import Tensor, nn

from medpipe.tasks.sharding import copy_whole


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, decay: float) -> None:
    """average <- decay * average + (1 - decay) * network, for parameters; buffers are copied."""
    for ours, theirs in zip(average.parameters(), network.parameters(), strict=True):
        ours.lerp_(theirs, 1 - decay)
    for buffer, current in zip(average.buffers(), network.buffers(), strict=True):
        buffer.copy_(current)


@final
class WeightAverage:
    """Averaged weights beside a network, in float32, as a state dict that a checkpoint can hold.

    The decay of step n is min(decay, (1 + n) / (10 + n)), so that short trainings are not held at their first weights.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = network
        self.decay = decay
        self.weights = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the network's weights after `step` steps."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, tensor in self.network.state_dict().items():
            ours = self.weights[name]
            if ours.is_floating_point():
                ours.lerp_(tensor.to(ours.dtype), 1 - decay)
            else:
                ours.copy_(tensor)

    def state_dict(self) -> dict[str, Tensor]:
        return dict(self.weights)

    def load_state_dict(self, weights: dict[str, Tensor]) -> None:
        assert weights.keys() == self.weights.keys(), "the average is of another network"
        for name, tensor in weights.items():
            copy_whole(tensor, self.weights[name])

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within the context, the network has the averaged weights."""
        own = {name: tensor.detach().clone() for name, tensor in self.network.state_dict().items()}
        self.network.load_state_dict(self.weights)
        try:
            yield
        finally:
            self.network.load_state_dict(own)
