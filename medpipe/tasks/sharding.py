"""Weights in shards over the processes (FSDP2), and whole again where they leave the training.

A checkpoint and weights that are handed over hold whole tensors, in the form that a training without shards writes: a
training may go on with another strategy.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

# A module with so many weights of its own is gathered by itself, so that the next one is under way while it computes.
LARGE = 1_000_000
# Ways into a network beside `forward`, before which its weights have to be gathered as well.
ENTRIES = ("supervised", "map_shapes", "answer_logits")


def shard(network: nn.Module, mesh: Any) -> None:
    """Spread a network's weights over the processes of `mesh`, large blocks by themselves."""
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    _shard_large_blocks(network, mesh)
    # A teacher that is not learned from has no backward pass after which its weights would be spread again.
    fully_shard(network, mesh=mesh, reshard_after_forward=True)
    for name in ENTRIES:
        if hasattr(network, name):
            register_fsdp_forward_method(network, name)


def _shard_large_blocks(module: nn.Module, mesh: Any) -> int:
    """Shard the large ones below `module`; how many weights are left to it."""
    from torch.distributed.fsdp import fully_shard

    own = sum(parameter.numel() for parameter in module.parameters(recurse=False))
    for child in module.children():
        left = _shard_large_blocks(child, mesh)
        if left >= LARGE and not isinstance(child, nn.ModuleList | nn.ModuleDict):
            fully_shard(child, mesh=mesh)
            left = 0
        own += left
    return own


def whole(tensor: Tensor) -> Tensor:
    """A tensor of which every process holds a shard, whole on the CPU of each; others as they are."""
    return tensor.full_tensor().cpu() if is_sharded(tensor) else tensor  # type: ignore[attr-defined]


def is_sharded(value: Any) -> bool:
    """Whether a value is a DTensor; asked so that a training of one process need not import them."""
    return hasattr(value, "full_tensor")


def whole_tensors(value: Any) -> Any:
    """`whole` of all tensors in a state."""
    if isinstance(value, Tensor):
        return whole(value)
    if isinstance(value, dict):
        return {name: whole_tensors(entry) for name, entry in value.items()}
    return value


def copy_whole(source: Tensor, target: Tensor) -> None:
    """`target.copy_(source)`, where `target` may be a shard of a tensor that `source` has whole."""
    with torch.no_grad():
        target.copy_(spread_like(source, target) if is_sharded(target) and not is_sharded(source) else source)


def spread_like(source: Tensor, target: Any) -> Tensor:
    """A whole tensor in shards, as `target` is."""
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(source.to(target.device), target.device_mesh, target.placements)


def optimiser_state(optimiser: Optimizer) -> dict[str, Any]:
    """The optimiser's state dict with whole tensors; all processes call it together."""
    state = optimiser.state_dict()
    return {**state, "state": {number: whole_tensors(entry) for number, entry in state["state"].items()}}


def load_optimiser_state(optimiser: Optimizer, state: dict[str, Any]) -> None:
    """The inverse, on whatever the weights of the optimiser are: tensors, or shards of them."""
    weights = [weight for group in optimiser.param_groups for weight in group["params"]]
    spread: dict[int, dict[str, Any]] = {}
    for number, entry in state["state"].items():
        weight = weights[number]
        spread[number] = dict(entry)
        for name, value in entry.items():
            if is_sharded(weight) and isinstance(value, Tensor) and value.ndim and value.shape == weight.shape:
                spread[number][name] = spread_like(value, weight)
    optimiser.load_state_dict({**state, "state": spread})
