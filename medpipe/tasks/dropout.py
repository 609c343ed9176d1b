"""Dropout keyed by (seed, sample): the same in whatever process and company a sample is seen."""

from typing import Any, final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.dropout import _DropoutNd
from torch.overrides import TorchFunctionMode

# Keeps these draws apart from those of patches and masks, which are keyed by (seed, sample) as well.
STREAM = 0x64726F70

# Function -> how many of the leading axes of its input have draws of their own; None: all.
KEYED = {
    functional.dropout: None,
    functional.dropout1d: 2,
    functional.dropout2d: 2,
    functional.dropout3d: 2,
}


def drops(network: nn.Module) -> bool:
    """Whether the network draws in training."""
    return any(isinstance(module, _DropoutNd) and module.p > 0 for module in network.modules())


@final
class KeyedDropout(TorchFunctionMode):
    """Context in which torch's dropout draws for each sample of a batch by itself.

    Torch's own draws run over the whole batch: the same sample would lose other features in another company. Here
    sample n draws from a generator that is seeded by (seed, n), in the order in which the network asks.
    """

    def __init__(self, seed: int, first_sample: int, count: int, device: torch.device) -> None:
        super().__init__()
        self.generators = [keyed_generator(seed, first_sample + place, device) for place in range(count)]

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func not in KEYED:
            return func(*args, **(kwargs or {}))
        return self._dropout(KEYED[func], *args, **(kwargs or {}))

    def _dropout(
        self, axes: int | None, input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
    ) -> Tensor:
        if not training or p == 0:
            return input
        count = len(self.generators)
        assert len(input) % count == 0, f"dropout of {len(input)} rows in a batch of {count} samples"
        shape = input.shape if axes is None else (*input.shape[:axes], *[1] * (input.ndim - axes))
        rows = (len(input) // count, *shape[1:])
        kept = torch.empty(shape, dtype=input.dtype, device=input.device)
        for place, generator in enumerate(self.generators):
            kept[place * rows[0] : (place + 1) * rows[0]].bernoulli_(1 - p, generator=generator)
        return input * kept.div_(1 - p)


def keyed_generator(seed: int, sample: int, device: torch.device) -> torch.Generator:
    """A generator that depends on (seed, sample) alone."""
    state = np.random.SeedSequence([seed, STREAM, sample]).generate_state(1, np.uint64)[0]
    return torch.Generator(device=device).manual_seed(int(state >> np.uint64(1)))
