"""What benchmarks/attention.py measures: cases with their operands, and the forms of attention beside ours.

A case is written `BATCHxHEADSxTOKENSxWIDTH`, and where it has them `+bias` (one a pair of tokens and head, trained, as
in Swin), `+regions` (windows shifted by 3, whose tokens see those of their own region) and `+causal`.
"""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from medpipe.kernels.sigmoid_attention.entry import sigmoid_attention

MOST_SCORES = 2**30  # 4 GiB of float32: larger score matrices are not held
SHIFT = 3  # of windows, in tokens along each axis
ADDITIONS = ("bias", "regions", "causal")
Attend = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]


@dataclass(frozen=True)
class Case:
    text: str
    batch: int
    heads: int
    tokens: int
    width: int
    with_bias: bool
    with_regions: bool
    is_causal: bool

    @classmethod
    def parse(cls, text: str) -> "Case":
        """Raises ValueError: not written as said above."""
        sizes, *additions = text.split("+")
        unknown = set(additions) - set(ADDITIONS)
        if unknown or len(sizes.split("x")) != 4:
            raise ValueError(f"{text!r} is no BATCHxHEADSxTOKENSxWIDTH with any of {', '.join(ADDITIONS)} after a +")
        batch, heads, tokens, width = map(int, sizes.split("x"))
        return cls(text, batch, heads, tokens, width, *(name in additions for name in ADDITIONS))

    @property
    def scores(self) -> int:
        return self.batch * self.heads * self.tokens**2

    def operations(self) -> tuple[float, float]:
        """Of forward and of backward as the field counts them: 4 and 10 a score and channel, half of it when causal."""
        forward = 4.0 * self.scores * self.width * (0.5 if self.is_causal else 1.0)
        return forward, 2.5 * forward


class Operands(NamedTuple):
    """q, k, v and, where a case has one, its bias (1, H, N, N); the gradient of the output."""

    leaves: list[Tensor]
    grad_out: Tensor


def operands(case: Case, dtype: torch.dtype, device: str) -> Operands:
    """Repeatable."""
    generator = torch.Generator(device).manual_seed(0)

    def draw(*size: int) -> Tensor:
        return torch.randn(size, generator=generator, device=device).to(dtype)

    sizes = (case.batch, case.heads, case.tokens, case.width)
    leaves = [draw(*sizes).requires_grad_() for _ in range(3)]
    if case.with_bias:
        leaves.append(draw(1, case.heads, case.tokens, case.tokens).requires_grad_())
    return Operands(leaves, draw(*sizes))


def region_ids(case: Case, device: str) -> Tensor | None:
    """(B, N): of cubic windows of a cubic grid, shifted. Those at the grid's far side hold tokens of both its sides."""
    if not case.with_regions:
        return None
    grid, edge = round(case.batch ** (1 / 3)), round(case.tokens ** (1 / 3))
    if grid**3 != case.batch or edge**3 != case.tokens:
        raise ValueError(f"{case.text}: regions need a cubic number of windows and of tokens")
    wraps = torch.zeros(grid, edge, dtype=torch.int64, device=device)
    wraps[-1, edge - SHIFT :] = 1
    x = wraps[:, None, None, :, None, None]
    y = wraps[None, :, None, None, :, None]
    z = wraps[None, None, :, None, None, :]
    ids = 4 * x + 2 * y + z
    return ids.reshape(case.batch, case.tokens).int()


class Form(NamedTuple):
    attend: Attend
    is_sigmoid: bool = False
    backend: SDPBackend | None = None  # forced on scaled_dot_product_attention
    tokens_first: bool = False  # takes (B, N, H, D) and copies what is not stored so

    def chosen(self) -> AbstractContextManager[Any]:
        """Stands around all calls that are timed, so that none of them pays for entering it."""
        return nullcontext() if self.backend is None else sdpa_kernel(self.backend)

    def __call__(self, leaves: list[Tensor]) -> Tensor:
        return self.attend(leaves[0], leaves[1], leaves[2], leaves[3] if len(leaves) > 3 else None)


BACKENDS = {
    "softmax_flash": SDPBackend.FLASH_ATTENTION,
    "softmax_efficient": SDPBackend.EFFICIENT_ATTENTION,
    "softmax_cudnn": SDPBackend.CUDNN_ATTENTION,
    "softmax_math": SDPBackend.MATH,
}
NAMES = ("sigmoid", "plain", "softmax", *BACKENDS)


def forms(case: Case, dtype: torch.dtype, device: str) -> dict[str, Form]:
    """Those that need torch alone, by their names in the result."""
    ids = region_ids(case, device)
    impl = "triton" if device == "cuda" else None  # an error where the kernels do not take a case, no slower form

    def sigmoid(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
        return sigmoid_attention(q, k, v, additive_bias=bias, regions=ids, is_causal=case.is_causal, impl=impl)

    softmax = _softmax(case, ids, dtype)
    return {
        "sigmoid": Form(sigmoid, is_sigmoid=True),
        "plain": Form(_plain(case, ids, dtype, device), is_sigmoid=True),
        "softmax": Form(softmax),
        **{name: Form(softmax, backend=backend) for name, backend in BACKENDS.items()},
    }


def _apart(ids: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """-100 where a pair is out of sight, as Swin's windows have it: (B, 1, N, N)."""
    if ids is None:
        return None
    return torch.where(ids[:, None, :, None] == ids[:, None, None, :], 0.0, -100.0).to(dtype)


def _sum(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    return one if other is None else other if one is None else one + other


def _softmax(case: Case, ids: Tensor | None, dtype: torch.dtype) -> Attend:
    apart = _apart(ids, dtype)

    def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
        return scaled_dot_product_attention(q, k, v, attn_mask=_sum(bias, apart), is_causal=case.is_causal)

    return attend


def _plain(case: Case, ids: Tensor | None, dtype: torch.dtype, device: str) -> Attend:
    apart = _apart(ids, dtype)
    if case.is_causal and case.scores <= MOST_SCORES:
        hidden = torch.ones(case.tokens, case.tokens, dtype=torch.bool, device=device).triu(1)
    else:
        hidden = None

    def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
        scores = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5 - math.log(k.shape[2])
        added = _sum(bias, apart)
        scores = scores if added is None else scores + added
        return torch.sigmoid(scores if hidden is None else scores.masked_fill(hidden, -math.inf)) @ v

    return attend


def installed_forms(case: Case) -> dict[str, Form]:
    """Other packages' sigmoid attention, where they are installed; neither takes a bias a pair."""
    if case.with_bias or case.with_regions:
        return {}
    found = {}
    bias = -math.log(case.tokens)
    if find_spec("flash_sigmoid") is not None:
        flash = import_module("flash_sigmoid").flash_attn_func

        def with_flash(q: Tensor, k: Tensor, v: Tensor, _: Tensor | None) -> Tensor:
            q, k, v = (x.transpose(1, 2) for x in (q, k, v))
            return flash(q, k, v, causal=case.is_causal, sigmoid_bias=bias).transpose(1, 2)

        found["flash_sigmoid"] = Form(with_flash, is_sigmoid=True, tokens_first=True)
    if find_spec("triton_sigmoid") is not None:
        in_triton = import_module("triton_sigmoid").sigmoid_attention

        def with_triton(q: Tensor, k: Tensor, v: Tensor, _: Tensor | None) -> Tensor:
            q, k, v = (x.transpose(1, 2) for x in (q, k, v))
            return in_triton(q, k, v, is_causal=case.is_causal, sigmoid_bias=bias).transpose(1, 2)

        found["triton_sigmoid"] = Form(with_triton, is_sigmoid=True, tokens_first=True)
    return found


def flex_form(case: Case) -> Form:
    """FlexAttention, compiled on its first call: softmax of log p times the row's sum of p is p.

    Cases without additions alone.
    """
    import torch._functorch.config
    from torch.nn.attention import flex_attention as flex

    torch._functorch.config.donated_buffer = False  # the backward is run again and again on one forward
    bias = -math.log(case.tokens)

    def log_sigmoid(score: Tensor, *_: Tensor) -> Tensor:
        z = score + bias
        return torch.clamp(z, max=0.0) - torch.log(1.0 + torch.exp(-torch.abs(z)))

    # 2.9 brought AuxRequest; what it replaces was to go after it.
    request = flex.AuxRequest(lse=True) if hasattr(flex, "AuxRequest") else None

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if request is None:
            out, log_sum = flex.flex_attention(q, k, v, score_mod=log_sigmoid, return_lse=True)  # type: ignore[misc]
        else:
            out, aux = flex.flex_attention(q, k, v, score_mod=log_sigmoid, return_aux=request)  # type: ignore[misc]
            log_sum = aux.lse
        return (out * torch.exp(log_sum)[..., None]).to(q.dtype)  # type: ignore[arg-type]

    compiled = torch.compile(attend, dynamic=False)
    return Form(lambda q, k, v, _: compiled(q, k, v), is_sigmoid=True)


def definition(case: Case, held: Operands, heads: slice, device: str) -> list[Tensor]:
    """Output and all gradients of some heads, in float64."""
    leaves = [x.detach()[:, heads].double().requires_grad_() for x in held.leaves]
    bias = leaves[3] if len(leaves) > 3 else None
    out = sigmoid_attention(
        leaves[0], leaves[1], leaves[2], additive_bias=bias, regions=region_ids(case, device),
        is_causal=case.is_causal, impl="reference",
    )  # fmt: skip
    return [out.detach(), *torch.autograd.grad(out, leaves, held.grad_out[:, heads].double())]


def output_and_gradients(form: Form, held: Operands) -> list[Tensor]:
    with form.chosen():
        out = form(held.leaves)
        return [out.detach(), *torch.autograd.grad(out, held.leaves, held.grad_out.to(out.dtype))]
