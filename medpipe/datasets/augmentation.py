"""Random changes to a patch: the training transforms of nnU-Net v2.8 (MIC-DKFZ/nnUNet), in numpy.

Every function takes the generator that the sample's key made, so that a sample is the same in any process. Sums are
taken by numpy and interpolation by scipy, both single-threaded: the number of threads cannot change a bit.
"""

import math
import re
from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field

from medpipe.config.base import Config

Probability = Annotated[float, Field(ge=0, le=1)]


def _in_order(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] > bounds[1]:
        raise ValueError(f"a range is (low, high), got {bounds}")
    return bounds


Range = Annotated[tuple[float, float], AfterValidator(_in_order)]
Patch = NDArray[np.float32]

SIDED = re.compile(r"(^|_)(left|right)(_|$)")
Axis = Literal["depth", "height", "width"]
AXES: tuple[Axis, ...] = ("depth", "height", "width")
LEFT_RIGHT_AXIS: Axis = "width"  # prepared volumes are oriented: d to the head, h to the front, w to the right


class AugmentationConfig(Config):
    """nnU-Net's values. Probabilities are per patch of one channel (its 'per channel' 0.5 is multiplied in)."""

    rotation_probability: Probability = 0.2
    rotation_degrees: tuple[float, float, float] = (30.0, 30.0, 30.0)  # up to, about the d, h and w axes
    scale_probability: Probability = 0.2
    scale: Range = (0.7, 1.4)  # of the field of view: over 1 makes things smaller
    noise_probability: Probability = 0.1
    noise_sd: Range = (0.0, 0.1)  # in units of the normalised image
    blur_probability: Probability = 0.1  # 0.2 x 0.5
    blur_sigma: Range = (0.5, 1.0)  # voxels, drawn for each axis
    brightness_probability: Probability = 0.15
    brightness: Range = (0.75, 1.25)  # factor
    contrast_probability: Probability = 0.15
    contrast: Range = (0.75, 1.25)  # factor about the mean; the range is kept
    low_resolution_probability: Probability = 0.125  # 0.25 x 0.5
    low_resolution: Range = (0.5, 1.0)  # share of the voxels along each axis
    inverted_gamma_probability: Probability = 0.1
    gamma_probability: Probability = 0.3
    gamma: Range = (0.7, 1.5)  # exponent; mean and SD are kept
    mirror_axes: tuple[Axis, ...] = ()  # each with probability 0.5; width is left-right


def check_mirroring(structures: Sequence[str], mirror_axes: Sequence[Axis]) -> None:
    """ValueError where left and right are labels and would be exchanged."""
    sided = [name for name in structures if SIDED.search(name)]
    if LEFT_RIGHT_AXIS in mirror_axes and sided:
        raise ValueError(
            f"mirror_axes [{', '.join(mirror_axes)}] exchanges left and right (width), but {', '.join(sided)} tell "
            "them apart; leave width out"
        )


def draw_spatial(
    config: AugmentationConfig, spacing_mm: Sequence[float], rng: np.random.Generator
) -> NDArray[np.float64] | None:
    """(3, 3) matrix from an offset in the patch to an offset in the volume, both in voxels; None for no change.

    The rotation is one of millimetres, so that anisotropic voxels are not sheared.
    """
    rotates, scales = rng.random(2) < (config.rotation_probability, config.scale_probability)
    angles = np.radians(rng.uniform(-1, 1, size=3) * config.rotation_degrees)
    factor = draw_factor(config.scale, rng)
    if not rotates and not scales:
        return None
    rotation = rotation_matrix(angles) if rotates else np.eye(3)
    spacing = np.asarray(spacing_mm, dtype=np.float64)
    return (factor if scales else 1.0) * rotation * spacing[None, :] / spacing[:, None]


def rotation_matrix(angles: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    """(3, 3) rotation about the axes d, h, w in turn, in radians."""
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        first, second = (axis + 1) % 3, (axis + 2) % 3
        turn = np.eye(3)
        turn[first, first] = turn[second, second] = math.cos(angle)
        turn[first, second], turn[second, first] = -math.sin(angle), math.sin(angle)
        matrix = turn @ matrix
    return matrix


def draw_factor(bounds: Range, rng: np.random.Generator) -> float:
    """A factor under or over one with equal chance, uniform on its side: nnU-Net's rule for scale, contrast, gamma."""
    side, place = rng.random(2)
    low, high = bounds
    if low < 1 < high:
        low, high = (low, 1.0) if side < 0.5 else (1.0, high)
    return float(low + (high - low) * place)


def augment_intensity(patch: Patch, config: AugmentationConfig, rng: np.random.Generator) -> Patch:
    """Noise, blur, brightness, contrast, low resolution, gamma, in nnU-Net's order. patch: (D, H, W) normalised."""
    if rng.random() < config.noise_probability:
        sd = rng.uniform(*config.noise_sd)
        noise: Patch = rng.standard_normal(patch.shape, dtype=np.float32)
        noise *= np.float32(sd)
        patch = patch + noise
    if rng.random() < config.blur_probability:
        patch = blur(patch, rng.uniform(*config.blur_sigma, size=3))
    if rng.random() < config.brightness_probability:
        patch = patch * np.float32(rng.uniform(*config.brightness))
    if rng.random() < config.contrast_probability:
        patch = change_contrast(patch, draw_factor(config.contrast, rng))
    if rng.random() < config.low_resolution_probability:
        patch = lower_resolution(patch, rng.uniform(*config.low_resolution))
    if rng.random() < config.inverted_gamma_probability:
        patch = -change_gamma(-patch, draw_factor(config.gamma, rng))
    if rng.random() < config.gamma_probability:
        patch = change_gamma(patch, draw_factor(config.gamma, rng))
    return patch


def draw_mirrored_axes(config: AugmentationConfig, rng: np.random.Generator) -> tuple[int, ...]:
    """The axes of (d, h, w) along which the patch is mirrored, each with probability 0.5."""
    heads = rng.random(3) < 0.5
    return tuple(number for number, axis in enumerate(AXES) if axis in config.mirror_axes and heads[number])


def blur(patch: Patch, sigma: Sequence[float] | NDArray[np.float64]) -> Patch:
    """Gaussian blur, sigma in voxels along (D, H, W)."""
    from scipy.ndimage import gaussian_filter

    blurred: Patch = np.empty_like(patch)
    gaussian_filter(patch, sigma=tuple(sigma), output=blurred, mode="nearest", truncate=3.0)
    return blurred


def change_contrast(patch: Patch, factor: float) -> Patch:
    """Stretch about the mean; what leaves the old range is clipped to it."""
    mean = patch.mean(dtype=np.float64)
    return np.clip((patch - np.float32(mean)) * np.float32(factor) + np.float32(mean), patch.min(), patch.max())


def change_gamma(patch: Patch, exponent: float) -> Patch:
    """Map the range to 0..1, raise to `exponent`, map back, and restore mean and SD."""
    low, high = patch.min(), patch.max()
    if high <= low:
        return patch
    mean, sd = patch.mean(dtype=np.float64), patch.std(dtype=np.float64)
    changed = np.power((patch - low) / (high - low), np.float32(exponent)) * (high - low) + low
    changed_sd = max(float(changed.std(dtype=np.float64)), 1e-8)
    return (changed - np.float32(changed.mean(dtype=np.float64))) * np.float32(sd / changed_sd) + np.float32(mean)


def lower_resolution(patch: Patch, share: float) -> Patch:
    """Keep that share of the voxels along each axis (nearest), and interpolate them linearly to the old size."""
    for axis, size in enumerate(patch.shape):
        count = max(1, round(size * share))
        centres = (np.arange(count) + 0.5) * size / count - 0.5
        kept = np.take(patch, np.rint(centres).astype(np.intp).clip(0, size - 1), axis=axis)
        position = ((np.arange(size) + 0.5) * count / size - 0.5).clip(0, count - 1)
        below = np.floor(position).astype(np.intp)
        weight = (position - below).astype(np.float32).reshape([-1 if axis == other else 1 for other in range(3)])
        lower, upper = np.take(kept, below, axis=axis), np.take(kept, np.minimum(below + 1, count - 1), axis=axis)
        patch = lower + (upper - lower) * weight
    return patch
