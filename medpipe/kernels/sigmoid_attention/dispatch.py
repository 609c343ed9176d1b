"""Which form runs a call: Triton's kernels for tensors on a CUDA device, torch elsewhere and where they refuse."""

import warnings
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from types import ModuleType
from typing import TypeVar

import torch
from torch import Tensor

from medpipe.kernels.sigmoid_attention import blockwise, triton_launch
from medpipe.kernels.sigmoid_attention.blockwise import Gradients, Wanted
from medpipe.kernels.sigmoid_attention.terms import Terms

BY_DEVICE = ""  # the operator's word for impl=None
Result = TypeVar("Result")


def forward(impl: str, q: Tensor, k: Tensor, v: Tensor, terms: Terms) -> Tensor:
    """Shapes as in `reference`; impl: 'torch', 'triton' or BY_DEVICE. Raises ValueError: 'triton' does not take it."""
    return _run(impl, q, v, terms, lambda form: form.forward(q, k, v, terms))


def backward(
    impl: str, grad_out: Tensor, q: Tensor, k: Tensor, v: Tensor, terms: Terms, wanted: Wanted
) -> Gradients:  # fmt: skip
    return _run(impl, q, v, terms, lambda form: form.backward(grad_out, q, k, v, terms, wanted))


def _run(impl: str, q: Tensor, v: Tensor, terms: Terms, call: Callable[[ModuleType], Result]) -> Result:
    if impl == "torch" or (impl == BY_DEVICE and q.device.type != "cuda"):
        return call(blockwise)
    reason = _why_not_triton(q, v, terms)
    if reason is None:
        # Triton is optional, and is first imported by a call that it runs.
        from triton.runtime.errors import OutOfResources

        from medpipe.kernels.sigmoid_attention import triton_form

        try:
            with torch.cuda.device_of(q):
                return call(triton_form)
        except OutOfResources as error:  # the tiles are chosen for the shared memory of an A100 or H100
            reason = f"tiles as large as theirs on this GPU ({error})"
    if impl == "triton":
        raise ValueError(f"impl='triton': the kernels of sigmoid_attention do not take {reason}; impl='torch' does")
    _warn_once(reason)
    return call(blockwise)


def _why_not_triton(q: Tensor, v: Tensor, terms: Terms) -> str | None:
    return _why_not_on(q.device) or triton_launch.refusal(q, v, terms)


@cache
def _why_not_on(device: torch.device) -> str | None:
    """Asked once a device: looking for triton alone takes 70 to 140 us, several times what a short call computes."""
    if find_spec("triton") is None:
        return "a machine without triton (install medpipe[triton])"
    if device.type == "cuda" and torch.version.hip is not None:
        return "a GPU of AMD: part of them is written in NVIDIA's assembly"
    if device.type == "cuda":
        capability = torch.cuda.get_device_capability(device)
        if capability < triton_launch.OLDEST:
            return f"a GPU of compute capability {capability[0]}.{capability[1]}, older than 8.0"
    elif not triton_launch.interprets():
        return f"tensors on {device.type} outside Triton's interpreter (TRITON_INTERPRET=1)"
    return None


@cache
def _warn_once(reason: str) -> None:
    warnings.warn(f"sigmoid_attention runs in plain torch, slower: its kernels do not take {reason}", stacklevel=2)
