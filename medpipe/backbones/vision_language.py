"""A small vision-language network: a vision transformer, and a decoder whose tokens look at the image's;
sigmoid attention.

Shape suffixes: B images, T image tokens, Q texts of an image, N texts, L text tokens, C width, H heads, D width of one.
"""

import math
from typing import final

import torch
from torch import Tensor, nn

from medpipe.backbones.vision_language_options import VisionLanguageOptions
from medpipe.backbones.word_tokenizer import END, PAD
from medpipe.kernels.sigmoid_attention.entry import sigmoid_attention

SHORT = 256  # keys

KeysValues = tuple[Tensor, Tensor]


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
        return self.attend(x_NLC, self.keys_values(seen_NTC), causal=causal)

    def keys_values(self, seen_NTC: Tensor) -> KeysValues:
        """What is looked at, (N, H, T, D) each."""
        k, v = (self._by_head(part) for part in self.key_value(seen_NTC).chunk(2, dim=-1))
        return self.key_norm(k), v

    def attend(
        self, x_NLC: Tensor, keys_values: KeysValues, *, causal: bool = False, at: Tensor | None = None
    ) -> Tensor:
        """`forward` on keys and values made before: those of an image serve all of its texts.

        at   (N, L): the places of the queries among the keys, in ascending order or not; each sees keys up to its own
        """
        k, v = keys_values
        num_queries, num_keys = x_NLC.shape[1], k.shape[2]
        q = self.query_norm(self._by_head(self.query(x_NLC)))
        # Few keys on a CPU: the definition, whose score matrix is small then, takes less time than the tiled form.
        impl = "reference" if num_keys <= SHORT and not k.is_cuda else None
        if at is not None:
            mask = torch.arange(num_keys, device=q.device) <= at[:, None, :, None]
            count = (at + 1).to(q.dtype).log()[:, None, :, None]
            out = sigmoid_attention(q, k, v, bias=0.0, additive_bias=-count, attn_mask=mask, impl=impl)
        elif causal:
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

    def seen(self, tokens_BTC: Tensor) -> KeysValues:
        """What the block sees of another sequence."""
        assert self.other is not None, "the block looks at nothing but its own sequence"
        return self.other.keys_values(tokens_BTC)

    def forward(self, x_NLC: Tensor, other: KeysValues | None = None, at: Tensor | None = None) -> Tensor:
        """other   of B sequences: that of the first image serves the first N / B texts, and so on
        at      (N, A): only these places of each text are wanted, (N, A, C)
        """
        x, normed = x_NLC, self.own_norm(x_NLC)
        keys_values = self.own.keys_values(normed)
        if at is not None:
            rows = torch.arange(len(x), device=x.device)[:, None]
            x, normed = x[rows, at], normed[rows, at]
        x = x + self.own.attend(normed, keys_values, causal=other is not None, at=at)
        if self.other is not None and self.other_norm is not None and other is not None:
            by_image = self.other_norm(x).reshape(len(other[0]), -1, x.shape[-1])
            x = x + self.other.attend(by_image, other).view_as(x)
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

    def forward(self, image: Tensor, tokens: Tensor) -> Tensor:
        """image (B, 3, side, side), tokens (B, Q, L): as many texts about each image -> (B, Q, L, words)."""
        return self.head(self.read(self.look(image), tokens))

    def answer_logits(self, image: Tensor, tokens: Tensor, at: Tensor, is_wanted: Tensor) -> Tensor:
        """Logits (n, words) of the texts' places `at` (B, Q, A) that are wanted, in their order."""
        return self.head(self.read(self.look(image), tokens, at)[is_wanted])

    def look(self, image: Tensor) -> list[KeysValues]:
        """What each block of the decoder sees of the images."""
        tokens = self.encoder(image)
        return [block.seen(tokens) for block in self.blocks if isinstance(block, Block)]

    def read(self, seen: list[KeysValues], tokens: Tensor, at: Tensor | None = None) -> Tensor:
        """Texts (B, Q, L) about images that were looked at -> (B, Q, L, C), for the head.

        at   (B, Q, A): only these places are wanted, (B, Q, A, C), which spares the last block the others
        """
        x = (self.embedding(tokens) + self.place[:, : tokens.shape[-1]]).flatten(0, 1)
        for number, (block, keys_values) in enumerate(zip(self.blocks, seen, strict=True), start=1):
            is_last = at is not None and number == len(self.blocks)
            x = block(x, keys_values, at.flatten(0, 1) if is_last and at is not None else None)
        return self.norm(x).unflatten(0, tokens.shape[:2])

    @torch.inference_mode()
    def answer(
        self, image: Tensor, prompts: list[list[int]], image_of: Tensor, *, max_new_tokens: int
    ) -> list[list[int]]:
        """Greedy answers to prompts that end with the answer token, each about image `image_of`.

        Texts are laid beside each other by image, as many rows for each. What stands behind a text cannot reach it, so
        that answers do not depend on what else is in the batch.
        """
        limit = self.options.max_tokens
        place, per_image = places(image_of.tolist(), len(image))
        rows = torch.tensor(place)
        lengths = torch.ones(len(image) * per_image, dtype=torch.int64)  # of rows without a text, which are not read
        tokens = torch.full((len(lengths), limit), PAD)
        for row, prompt in zip(place, prompts, strict=True):
            lengths[row] = len(prompt)
            tokens[row, : len(prompt)] = torch.tensor(prompt)
        seen = self.look(image)
        tokens, ends = tokens.to(image.device), lengths.clone()
        going = torch.zeros(len(lengths), dtype=torch.bool)
        going[rows] = lengths[rows] < limit
        for _ in range(max_new_tokens):
            if not bool(going.any()):
                break
            open_ = going.nonzero()[:, 0]
            texts = tokens[:, : int(ends[going].max())].unflatten(0, (len(image), per_image))
            last = self.read(seen, texts).flatten(0, 1)[open_, ends[open_] - 1]
            following = self.head(last).argmax(dim=-1)
            tokens[open_, ends[open_]] = following
            ends[open_] += 1
            going[open_] = (following.cpu() != END) & (ends[open_] < limit)
        return [tokens[row, lengths[row] : ends[row]].tolist() for row in place]


def places(image_of: list[int], num_images: int) -> tuple[list[int], int]:
    """The row of each text where each image has the same number of rows, and that number."""
    counts = [0] * num_images
    within = []
    for image in image_of:
        within.append(counts[image])
        counts[image] += 1
    per_image = max(counts)
    return [image * per_image + number for image, number in zip(image_of, within, strict=True)], per_image
