"""A small vision-language network: a vision transformer, and a decoder whose tokens look at the image's;
sigmoid attention.

Shape suffixes: B images, T image tokens, N texts, L text tokens, C width.
"""

import math
from typing import final

import torch
from torch import Tensor, nn

from medpipe.backbones.vision_language_options import VisionLanguageOptions
from medpipe.backbones.word_tokenizer import END, PAD
from medpipe.kernels.sigmoid_attention.entry import sigmoid_attention

SHORT = 256  # keys


@final
class SigmoidAttention(nn.Module):
    """sum_j sigmoid(q_i . k_j / sqrt(d) - log n_i) v_j, with n_i the number of keys that i may see.

    Rows are not normalised: the bias lets a row of weights start out summing to about one (Ramapuram et al., 2024,
    arXiv:2409.04431). Queries and keys are normalised per head, as there (section 4).
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.head_width = heads, width // heads
        self.query, self.key_value, self.out = (
            nn.Linear(width, width),
            nn.Linear(width, 2 * width),
            nn.Linear(width, width),
        )
        self.query_norm, self.key_norm = nn.LayerNorm(self.head_width), nn.LayerNorm(self.head_width)

    def forward(self, x_NLC: Tensor, seen_NTC: Tensor, *, causal: bool = False) -> Tensor:
        """causal: token i sees `seen` up to i."""
        num_queries, num_keys = x_NLC.shape[1], seen_NTC.shape[1]
        q = self.query_norm(self._by_head(self.query(x_NLC)))
        k, v = (self._by_head(part) for part in self.key_value(seen_NTC).chunk(2, dim=-1))
        k = self.key_norm(k)
        # Few keys on a CPU: the definition, whose score matrix is small then, takes less time than the tiled form.
        impl = "reference" if num_keys <= SHORT and not k.is_cuda else None
        if causal:
            visible = torch.arange(1, num_queries + 1, device=q.device, dtype=q.dtype).log()
            out = sigmoid_attention(
                q, k, v, bias=0.0, is_causal=True, additive_bias=-visible[None, None, :, None], impl=impl
            )
        else:
            out = sigmoid_attention(q, k, v, impl=impl)  # its own bias: -log of the number of keys
        return self.out(out.transpose(1, 2).flatten(2))

    def _by_head(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, self.head_width)).transpose(1, 2)


@final
class Block(nn.Module):
    """Pre-norm attention, attention to another sequence where `looks` is set, and a two-layer perceptron."""

    def __init__(self, width: int, heads: int, *, looks: bool) -> None:
        super().__init__()
        self.own_norm, self.own = nn.LayerNorm(width), SigmoidAttention(width, heads)
        self.other_norm = nn.LayerNorm(width) if looks else None
        self.other = SigmoidAttention(width, heads) if looks else None
        self.perceptron = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        normed = self.own_norm(x)
        x = x + self.own(normed, normed, causal=other is not None)
        if self.other is not None and self.other_norm is not None and other is not None:
            x = x + self.other(self.other_norm(x), other)
        return x + self.perceptron(x)


@final
class ImageEncoder(nn.Module):
    """Image tokens of a vision transformer; its patches are embedded by strided convolutions (arXiv:2106.14881)."""

    def __init__(self, options: VisionLanguageOptions) -> None:
        super().__init__()
        halvings = int(math.log2(options.stride))
        widths = [3, *(max(8, options.width >> (halvings - 1 - level)) for level in range(halvings))]
        layers: list[nn.Module] = []
        for level in range(halvings):
            layers += _convolution(widths[level], widths[level + 1], stride=2)
            if level:
                layers += _convolution(widths[level + 1], widths[level + 1], stride=1)
        self.stem = nn.Sequential(*layers, nn.Conv2d(widths[-1], options.width, 1))
        num_tokens = (options.image_size // options.stride) ** 2
        self.place = nn.Parameter(0.02 * torch.randn(1, num_tokens, options.width))
        self.blocks = nn.ModuleList(
            Block(options.width, options.heads, looks=False) for _ in range(options.image_depth)
        )
        self.norm = nn.LayerNorm(options.width)

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, side, side), 0 to 255 -> (B, T, C)."""
        x = self.stem(image.float() / 127.5 - 1.0).flatten(2).transpose(1, 2) + self.place
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


def _convolution(inside: int, outside: int, *, stride: int) -> list[nn.Module]:
    return [nn.Conv2d(inside, outside, 3, stride, 1), nn.GroupNorm(4, outside), nn.GELU()]


@final
class VisionLanguageNetwork(nn.Module):
    """Next-token logits of texts about images. The encoder lies under `encoder.`."""

    def __init__(self, options: VisionLanguageOptions, *, vocabulary_size: int) -> None:
        super().__init__()
        self.options = options
        self.encoder = ImageEncoder(options)
        self.embedding = nn.Embedding(vocabulary_size, options.width)
        self.place = nn.Parameter(0.02 * torch.randn(1, options.max_tokens, options.width))
        self.blocks = nn.ModuleList(Block(options.width, options.heads, looks=True) for _ in range(options.text_depth))
        self.norm = nn.LayerNorm(options.width)
        self.head = nn.Linear(options.width, vocabulary_size)
        nn.init.normal_(self.embedding.weight, std=0.02)

    def forward(self, image: Tensor, tokens: Tensor, image_of: Tensor) -> Tensor:
        """image (B, 3, side, side), tokens (N, L), image_of (N,): which image each text is about -> (N, L, words)."""
        return self.read(self.encoder(image)[image_of], tokens)

    def read(self, image_NTC: Tensor, tokens: Tensor) -> Tensor:
        """Logits of texts whose image tokens are given, (N, T, C)."""
        x = self.embedding(tokens) + self.place[:, : tokens.shape[1]]
        for block in self.blocks:
            x = block(x, image_NTC)
        return self.head(self.norm(x))

    @torch.inference_mode()
    def answer(
        self, image: Tensor, prompts: list[list[int]], image_of: Tensor, *, max_new_tokens: int
    ) -> list[list[int]]:
        """Greedy answers to prompts that end with the answer token. What stands behind a text cannot reach it, so that
        answers do not depend on what else is in the batch."""
        limit = self.options.max_tokens
        lengths = torch.tensor([len(prompt) for prompt in prompts])
        tokens = torch.full((len(prompts), limit), PAD)
        for row, prompt in enumerate(prompts):
            tokens[row, : len(prompt)] = torch.tensor(prompt)
        image_tokens = self.encoder(image)[image_of]
        tokens, ends = tokens.to(image.device), lengths.clone()
        rows, going = torch.arange(len(prompts)), lengths < limit
        for _ in range(max_new_tokens):
            if not bool(going.any()):
                break
            longest = int(ends.max())
            logits = self.read(image_tokens, tokens[:, :longest])
            following = logits[rows, ends - 1].argmax(dim=-1).cpu()
            tokens[rows[going], ends[going]] = following[going].to(tokens.device)
            ends = ends + going
            going = going & (following != END) & (ends < limit)
        return [tokens[row, lengths[row] : ends[row]].tolist() for row in range(len(prompts))]
