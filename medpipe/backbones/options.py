"""The options of every volume backbone: what a workflow writes under `backbone:`. Free of torch.

Every backbone has a `size`, so that an overlay such as `backbone: {size: tiny}` fits whichever one a stage names.
Widths given beside it (`tiny_width`, `base_width`, `init_filters`, `feature_size`) take its place.
"""

from itertools import accumulate
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from medpipe.config.base import Config, execution

Stride = tuple[int, int, int]  # (D, H, W)

# How an encoder of convolutions computes on visible voxels. masked: dense, then a mask, at the cost of the dense
# network; gathered: on the visible blocks alone; measured: at each level the one that was measured to be faster there.
SparseForm = Literal["measured", "gathered", "masked"]
Step = Annotated[int, Field(ge=1, le=2)]  # more would jump over voxels of the finer level
LevelStride = tuple[Step, Step, Step]
Edge = Annotated[int, Field(ge=1, le=7)]
KernelSize = tuple[Edge, Edge, Edge]

HALVED: Stride = (2, 2, 2)


def total_strides(steps: tuple[Stride, ...]) -> tuple[Stride, ...]:
    """Strides of the levels against the input, from the step between each level and the next finer one."""
    return tuple(accumulate(steps, lambda total, step: (total[0] * step[0], total[1] * step[1], total[2] * step[2])))


class BackboneOptions(Config):
    """Abstract. Options of one volume backbone; `name` chooses it."""

    name: str

    @property
    def divisor(self) -> Stride:
        """The sides of a patch (D, H, W) must divide by these."""
        raise NotImplementedError

    @property
    def hidden_block(self) -> Stride | None:
        """Voxels (D, H, W) of a block that sparse masked pretraining hides; None where there is no sparse form."""
        return None


class StunetOptions(BackboneOptions):
    """STU-Net (Huang et al., 2023, arXiv:2304.06716): a U-Net of six levels that scales in width and depth alike.

    size    base width  blocks a level  parameters with 105 outputs
    tiny    tiny_width  1               ours, for CPUs: 0.9 M (4) to 3.6 M (8)
    small   16          1               14.60 M
    base    32          1               58.26 M
    large   64          2               440.30 M
    huge    96          3               1457.33 M
    """

    name: Literal["stunet"] = "stunet"
    size: Literal["tiny", "small", "base", "large", "huge"] = "base"
    # Channels of the finest level of size tiny; no effect on the others.
    tiny_width: int = Field(default=8, ge=4, le=8)
    # Step (D, H, W) from each level to the next coarser one, finest first. Leave all at 2 on isotropic grids. On
    # slices thicker than twice the pixel, start with (1, 2, 2) until the voxels are about cubes: the product along
    # an axis is what patch sizes must divide by (a last step of (1, 2, 2) lets a side of 48 through), and hidden blocks
    # of masked pretraining are as large as the first four steps multiply to.
    strides: tuple[LevelStride, LevelStride, LevelStride, LevelStride, LevelStride] = (
        HALVED,
        HALVED,
        HALVED,
        HALVED,
        HALVED,
    )

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of the six levels, finest first."""
        base = {"tiny": self.tiny_width, "small": 16, "base": 32, "large": 64, "huge": 96}[self.size]
        return tuple(base * factor for factor in (1, 2, 4, 8, 16, 16))

    @property
    def depth(self) -> int:
        """Residual blocks on each level, in the encoder and in the decoder."""
        return {"tiny": 1, "small": 1, "base": 1, "large": 2, "huge": 3}[self.size]

    @property
    def level_strides(self) -> tuple[Stride, ...]:
        """Strides (D, H, W) of the six levels against the input, finest first."""
        return total_strides(((1, 1, 1), *self.strides))

    @property
    def divisor(self) -> Stride:
        return self.level_strides[-1]

    @property
    def hidden_block(self) -> Stride:
        # Of five levels: the sixth would need blocks of 32^3 voxels, 36 of them in a crop of 96 x 96 x 128.
        return self.level_strides[4]


class DynUnetOptions(BackboneOptions):
    """monai's DynUNet: the plain 3D network of nnU-Net (Isensee et al., 2021, doi:10.1038/s41592-020-01008-z)."""

    name: Literal["dynunet"] = "dynunet"
    # tiny 8, small 16, base 32 (nnU-Net's), large 64 channels on the finest level.
    size: Literal["tiny", "small", "base", "large"] = "base"
    # Channels on the finest level, in place of the size's; doubled per level up to ten times as many.
    base_width: int | None = Field(default=None, ge=4)
    # Channels of every level, finest first, in place of all the above; as many as strides.
    filters: tuple[int, ...] | None = None
    # Step (D, H, W) of each level, finest first; the first keeps the input's grid.
    strides: tuple[LevelStride, ...] = Field(default=((1, 1, 1), *(HALVED,) * 5), min_length=3)
    # Convolution kernels (D, H, W) of each level; by default 3, or 1 along an axis until its first step over 1 (the
    # axis is then still coarser than the others).
    kernel_sizes: tuple[KernelSize, ...] | None = None
    # Residual blocks in the encoder.
    residual: bool = False

    @model_validator(mode="after")
    def check_levels(self) -> Self:
        for field in ("filters", "kernel_sizes"):
            given = getattr(self, field)
            if given is not None and len(given) != len(self.strides):
                raise ValueError(
                    f"'{field}' has {len(given)} entries, 'strides' {len(self.strides)}: one a level is needed"
                )
        if self.strides[0] != (1, 1, 1):
            raise ValueError(f"'strides' starts with {self.strides[0]}: the finest level must keep the grid, (1, 1, 1)")
        if self.kernel_sizes and any(edge % 2 == 0 for kernel in self.kernel_sizes for edge in kernel):
            raise ValueError(f"'kernel_sizes' must be odd, got {self.kernel_sizes}: an even kernel shifts the grid")
        return self

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of every level, finest first."""
        if self.filters is not None:
            return self.filters
        base = self.base_width or {"tiny": 8, "small": 16, "base": 32, "large": 64}[self.size]
        return tuple(base * min(2**level, 10) for level in range(len(self.strides)))

    @property
    def kernels(self) -> tuple[Stride, ...]:
        """Convolution kernels (D, H, W) of every level, finest first."""
        if self.kernel_sizes is not None:
            return self.kernel_sizes
        later = (*self.strides[1:], self.strides[-1])
        return tuple(
            (3, 3, 3) if (2, 2, 2) in later[: level + 1] else kernel_before(step) for level, step in enumerate(later)
        )

    @property
    def level_strides(self) -> tuple[Stride, ...]:
        """Strides (D, H, W) of the levels against the input, finest first."""
        return total_strides(self.strides)

    @property
    def divisor(self) -> Stride:
        return self.level_strides[-1]


def kernel_before(step: Stride) -> Stride:
    """3 along the axes that are about to be halved, 1 along those that are still coarser than twice the others."""
    return (3 if step[0] > 1 else 1, 3 if step[1] > 1 else 1, 3 if step[2] > 1 else 1)


class SegResNetOptions(BackboneOptions):
    """monai's SegResNet (Myronenko, 2018, arXiv:1810.11654), without the variational branch."""

    name: Literal["segresnet"] = "segresnet"
    # tiny 8, small 16, base 32, large 64 channels on the finest level.
    size: Literal["tiny", "small", "base", "large"] = "base"
    # Channels on the finest level, in place of the size's; group normalisation has 8 groups.
    init_filters: int | None = Field(default=None, ge=8, multiple_of=8)

    @property
    def width(self) -> int:
        """Channels on the finest level."""
        return self.init_filters or {"tiny": 8, "small": 16, "base": 32, "large": 64}[self.size]

    @property
    def divisor(self) -> Stride:
        return (8, 8, 8)


class SwinUnetrOptions(BackboneOptions):
    """monai's SwinUNETR (Hatamizadeh et al., 2022, arXiv:2201.01266)."""

    name: Literal["swin_unetr"] = "swin_unetr"
    # tiny 12 (4.0 M parameters), small 24 (15.7 M), base 48 (62.2 M), large 96.
    size: Literal["tiny", "small", "base", "large"] = "base"
    # Channels of the token embedding, in place of the size's.
    feature_size: int | None = Field(default=None, ge=12, multiple_of=12)
    # Within windows. softmax: monai's own modules; sigmoid: arXiv:2409.04431, by medpipe's kernel. The weights have the
    # same names.
    attention: Literal["softmax", "sigmoid"] = "softmax"
    # Keep activations of the transformer or compute them twice: less memory for more time.
    recompute: bool = execution(False)

    @property
    def width(self) -> int:
        """Channels of the token embedding and of the finest feature map."""
        return self.feature_size or {"tiny": 12, "small": 24, "base": 48, "large": 96}[self.size]

    @property
    def divisor(self) -> Stride:
        return (32, 32, 32)


class MedNextOptions(BackboneOptions):
    """monai's MedNeXt (Roy et al., 2023, arXiv:2303.09975)."""

    name: Literal["mednext"] = "mednext"
    # S, B, M and L of the paper; tiny is S with 8 channels on the finest level in place of 32, ours.
    size: Literal["tiny", "small", "base", "medium", "large"] = "base"
    kernel_size: Literal[3, 5] = 3

    @property
    def width(self) -> int:
        """Channels on the finest level."""
        return 8 if self.size == "tiny" else 32

    @property
    def divisor(self) -> Stride:
        return (16, 16, 16)


class AttentionOptions(Config):
    """How the tokens of a transformer look at each other."""

    # sigmoid: arXiv:2409.04431, by medpipe's kernel; softmax: torch's scaled dot product attention.
    kind: Literal["sigmoid", "softmax"] = "sigmoid"
    # Queries and keys normalised per head.
    qk_norm: bool = True
    # A sigmoid of the layer's input times what the heads found, one number a head or one a channel (arXiv:2505.06708).
    gate: Literal["none", "headwise", "elementwise"] = "none"
    # First value of a learned factor for each channel of a branch; null leaves it out.
    layer_scale: float | None = Field(default=0.1, gt=0)
    # A second normalisation, of the attention's output.
    hybrid_norm: bool = False


PatchSide = Literal[1, 2, 4, 8, 16]


class VisionTransformerOptions(BackboneOptions):
    """A plain transformer over patches, after Primus (Wald et al., 2025, arXiv:2503.01835), with sigmoid attention.

    size    width  blocks  heads  finest map
    tiny    96     4       3      8           for CPUs
    small   384    12      6      16
    base    768    12      12     32
    large   1024   24      16     32
    """

    name: Literal["vision_transformer"] = "vision_transformer"
    size: Literal["tiny", "small", "base", "large"] = "base"
    # Voxels (D, H, W) of a token: a patch of 96^3 voxels in patches of 8^3 is 1,728 tokens. On thick slices the first
    # number is smaller.
    patch: tuple[PatchSide, PatchSide, PatchSide] = (8, 8, 8)
    attention: AttentionOptions = AttentionOptions()
    # rotary: queries and keys are turned by their place along each axis; learned: a vector for each place is added.
    position: Literal["rotary", "learned"] = "rotary"
    # Places along each axis of the learned table, in tokens.
    longest_side: int = Field(default=64, ge=1)

    @model_validator(mode="after")
    def check_patch(self) -> Self:
        if max(self.patch) == 1:
            raise ValueError("'patch' is (1, 1, 1): every voxel would be a token; 8 along each side is usual")
        return self

    @property
    def width(self) -> int:
        return {"tiny": 96, "small": 384, "base": 768, "large": 1024}[self.size]

    @property
    def depth(self) -> int:
        return {"tiny": 4, "small": 12, "base": 12, "large": 24}[self.size]

    @property
    def num_heads(self) -> int:
        return {"tiny": 3, "small": 6, "base": 12, "large": 16}[self.size]

    @property
    def decoder_width(self) -> int:
        """Channels of the finest map, doubled on each coarser one."""
        return {"tiny": 8, "small": 16, "base": 32, "large": 32}[self.size]

    @property
    def level_strides(self) -> tuple[Stride, ...]:
        """Strides (D, H, W) of the maps, finest first, the tokens' last."""
        levels = range(max(self.patch).bit_length())
        d, h, w = self.patch
        return tuple((min(2**level, d), min(2**level, h), min(2**level, w)) for level in levels)

    @property
    def divisor(self) -> Stride:
        return self.patch

    @property
    def hidden_block(self) -> Stride:
        # At least 16 along each side, as STU-Net's: the inside of a smaller block is read off its rim.
        d, h, w = self.patch
        times = max(1, 16 // max(self.patch))
        return (d * times, h * times, w * times)


class HybridOptions(BackboneOptions):
    """STU-Net with transformer blocks behind its two coarsest levels; sizes are STU-Net's."""

    name: Literal["hybrid"] = "hybrid"
    size: Literal["tiny", "small", "base", "large", "huge"] = "base"
    # As STU-Net's.
    tiny_width: Literal[4, 8] = 8
    strides: tuple[LevelStride, LevelStride, LevelStride, LevelStride, LevelStride] = (
        HALVED,
        HALVED,
        HALVED,
        HALVED,
        HALVED,
    )
    # Transformer blocks on each of the two levels.
    num_blocks: int = Field(default=2, ge=1)
    attention: AttentionOptions = AttentionOptions()

    @property
    def stunet(self) -> StunetOptions:
        """The convolutional part."""
        return StunetOptions(size=self.size, tiny_width=self.tiny_width, strides=self.strides)

    @property
    def head_width(self) -> int:
        return 32 if self.size in ("tiny", "small") else 64

    @property
    def divisor(self) -> Stride:
        return self.stunet.divisor

    @property
    def hidden_block(self) -> Stride:
        return self.stunet.hidden_block


class LightDecoderOptions(Config):
    """The decoder of sparse masked pretraining, thrown away afterwards.

    The published recipe is 512 wide, and then costs five times as much as the base encoder (598 to 109 GMAC on
    112 x 112 x 128 voxels); at 128 what the encoder saves on hidden blocks can be felt.
    """

    # Channels at the coarsest level, halved on each finer one.
    width: int = Field(default=128, ge=4)
    # Channels are not halved below this.
    min_width: int = Field(default=8, ge=1)
    # Kernel edge of the transposed convolution where it doubles the grid; 2 costs an eighth of 4.
    upsampling_kernel: Literal[2, 4] = 4
    # The finest block runs on the hidden blocks alone, which see no visible neighbour there: the loss reads no others.
    hidden_only: bool = False
