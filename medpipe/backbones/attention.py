"""The attention layer of every transformer here, by sigmoid or by softmax, and the block around it."""

from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional

from medpipe.backbones.options import AttentionOptions
from medpipe.backbones.rotary import rotate
from medpipe.kernels.sigmoid_attention.entry import sigmoid_attention

EPS = 1e-6  # of every LayerNorm, as in the published recipe of sigmoid attention


@final
class Attention(nn.Module):
    """Self-attention over tokens (B, N, width).

    sigmoid: every pair weighs sigmoid(q k / sqrt(D) - log n), n the valid keys of the sequence, rows not normalised
    (Ramapuram et al., 2024, arXiv:2409.04431); softmax: torch's. `gate` multiplies what the heads found by a sigmoid of
    the layer's input, one number a head or one a channel, before the output projection (Qiu et al., 2025,
    arXiv:2505.06708). `qk_norm` normalises queries and keys per head, before they are turned to their places.
    """

    def __init__(self, width: int, num_heads: int, options: AttentionOptions) -> None:
        super().__init__()
        if width % num_heads:
            raise ValueError(f"a width of {width} does not divide into {num_heads} heads")
        self.num_heads = num_heads
        self.kind = options.kind
        self.qkv = nn.Linear(width, 3 * width)
        head_width = width // num_heads
        self.q_norm = nn.LayerNorm(head_width, eps=EPS) if options.qk_norm else nn.Identity()
        self.k_norm = nn.LayerNorm(head_width, eps=EPS) if options.qk_norm else nn.Identity()
        num_gates = {"none": 0, "headwise": num_heads, "elementwise": width}[options.gate]
        self.gate = nn.Linear(width, num_gates, bias=False) if num_gates else None
        self.projection = nn.Linear(width, width)

    def forward(
        self,
        x: Tensor,
        *,
        rotary: Tensor | None = None,
        key_lengths: Tensor | None = None,
        additive_bias: Tensor | None = None,
        regions: Tensor | None = None,
    ) -> Tensor:
        """rotary as of `rotate`; the other arguments as of `sigmoid_attention`, in either kind."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        q, k = self.q_norm(q), self.k_norm(k)
        if rotary is not None:
            q, k = rotate(q, rotary), rotate(k, rotary)
        q, k = q.to(v.dtype), k.to(v.dtype)  # under autocast a norm gives float32
        if self.kind == "sigmoid":
            out = sigmoid_attention(q, k, v, key_lengths=key_lengths, additive_bias=additive_bias, regions=regions)
        else:
            out = softmax_attention(q, k, v, key_lengths=key_lengths, additive_bias=additive_bias, regions=regions)
        out = out.transpose(1, 2)
        if self.gate is not None:
            out = out * torch.sigmoid(self.gate(x)).unflatten(-1, (self.num_heads, -1))
        return self.projection(out.flatten(2))


def softmax_attention(
    q: Tensor, k: Tensor, v: Tensor, *, key_lengths: Tensor | None, additive_bias: Tensor | None, regions: Tensor | None
) -> Tensor:
    """torch's scaled dot product attention with the masks of `sigmoid_attention` made one."""
    mask: Tensor | None = None
    if key_lengths is not None:
        mask = (torch.arange(k.shape[2], device=k.device) < key_lengths[:, None])[:, None, None]
    if regions is not None:
        same = _for_batch((regions[:, None, :, None] == regions[:, None, None, :]), q.shape[0])
        mask = same if mask is None else mask & same
    if additive_bias is not None:
        additive_bias = _for_batch(additive_bias, q.shape[0]).to(q.dtype)
        mask = additive_bias if mask is None else additive_bias.masked_fill(~mask, -torch.inf)
    return functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def _for_batch(x: Tensor, batch: int) -> Tensor:
    """Row b mod R of x (R, ...) for each batch b."""
    return x if x.shape[0] in (1, batch) else x.repeat(batch // x.shape[0], 1, 1, 1)


@final
class LayerScale(nn.Module):
    """Each channel of a branch times a learned number that begins small (Touvron et al., 2021, arXiv:2103.17239)."""

    def __init__(self, width: int, initial: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((width,), initial))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight


@final
class TransformerBlock(nn.Module):
    """x + attention(norm x), then x + mlp(norm x); with hybrid_norm the attention's output is normalised as well."""

    def __init__(self, width: int, num_heads: int, options: AttentionOptions, *, mlp_ratio: int = 4) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=EPS)
        self.attention = Attention(width, num_heads, options)
        self.hybrid_norm = nn.LayerNorm(width, eps=EPS) if options.hybrid_norm else nn.Identity()
        self.norm2 = nn.LayerNorm(width, eps=EPS)
        self.mlp = nn.Sequential(nn.Linear(width, mlp_ratio * width), nn.GELU(), nn.Linear(mlp_ratio * width, width))
        initial = options.layer_scale
        self.scale1 = nn.Identity() if initial is None else LayerScale(width, initial)
        self.scale2 = nn.Identity() if initial is None else LayerScale(width, initial)

    def forward(
        self,
        x: Tensor,
        *,
        rotary: Tensor | None = None,
        key_lengths: Tensor | None = None,
        additive_bias: Tensor | None = None,
        regions: Tensor | None = None,
    ) -> Tensor:
        """Arguments as of `Attention`."""
        found = self.attention(
            self.norm1(x), rotary=rotary, key_lengths=key_lengths, additive_bias=additive_bias, regions=regions
        )
        x = x + self.scale1(self.hybrid_norm(found))
        return x + self.scale2(self.mlp(self.norm2(x)))


def initialise(module: nn.Module) -> None:
    """Truncated normal of SD 0.02 and biases 0, as ViT's."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
