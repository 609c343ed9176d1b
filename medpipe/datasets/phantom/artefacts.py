"""What the scanner adds: the couch, blur, bias, beam hardening and streaks from metal, correlated noise, clipping."""

import numpy as np
from scipy import ndimage

from medpipe.datasets.phantom.shapes import smooth_field

NUM_VIEWS = 72
# Chosen so that in slices with metal half of the voxels err by more than about 5 HU and one in a hundred by more than
# 50: a CT of a titanium applicator without metal artefact reduction.
HARDENING = 16.0
STARVATION = 220.0


def add_couch(hu: np.ndarray, axes: tuple[np.ndarray, np.ndarray, np.ndarray], top_mm: float) -> None:
    """A hollow carbon couch under the patient, in place: a dense shell of 3 mm around foam."""
    _, y, x = axes
    surface = top_mm - 0.0006 * x[None, :] ** 2
    below = surface - y[:, None]
    half_width = np.abs(x)[None, :] < 125
    is_shell = half_width & (((below > 0) & (below < 3)) | ((below > 13) & (below < 16)))
    is_foam = half_width & (below >= 3) & (below <= 13)
    hu[:, is_shell] = np.maximum(hu[:, is_shell], -350.0)
    hu[:, is_foam] = np.maximum(hu[:, is_foam], -920.0)


def scan(
    hu: np.ndarray,
    axes: tuple[np.ndarray, np.ndarray, np.ndarray],
    is_body: np.ndarray,
    metal: np.ndarray | None,
    rng: np.random.Generator,
    *,
    noise_hu: float,
    streak_strength: float,
) -> np.ndarray:
    """int16 HU (D, H, W) in -1024..3071 as a scanner would give them. `metal`: share of metal by voxel, or None."""
    blurred = ndimage.gaussian_filter(hu, sigma=(0.35, 0.45, 0.45))
    bias = 5.0 * smooth_field(rng, axes, wavelength_mm=220.0) * is_body
    dense = np.clip(hu - 150.0, 0, 1200) / 1000.0
    result = blurred + bias
    if metal is not None and metal.any():
        result += streak_strength * metal_streaks(metal, dense, axes, rng)
    result += noise_hu * _noise(is_body, dense, axes, rng)
    return np.clip(np.rint(result), -1024, 3071).astype(np.int16)


def _noise(
    is_body: np.ndarray, dense: np.ndarray, axes: tuple[np.ndarray, np.ndarray, np.ndarray], rng: np.random.Generator
) -> np.ndarray:
    """Noise of SD about 1 in the body's middle, 0.4 at its rim and in air; drawn out sideways between the hips."""
    grain = ndimage.gaussian_filter(rng.normal(size=is_body.shape), sigma=(0.3, 0.65, 0.65))
    smear = ndimage.gaussian_filter(rng.normal(size=is_body.shape), sigma=(0.3, 0.5, 5.0))
    depth = ndimage.gaussian_filter(is_body.astype(np.float64), sigma=(0.0, 7.0, 7.0))
    # Rays along x cross both hips where a row holds much bone.
    bone_share = ndimage.gaussian_filter(dense.mean(axis=2, keepdims=True), sigma=(1.0, 2.0, 0.0))
    attenuation = np.clip(bone_share / 0.08, 0, 1)
    return (0.4 + 0.6 * depth**2) * (grain / grain.std() + 0.7 * attenuation * smear / smear.std())


def metal_streaks(
    metal: np.ndarray,
    dense: np.ndarray,
    axes: tuple[np.ndarray, np.ndarray, np.ndarray],
    rng: np.random.Generator,
) -> np.ndarray:
    """Error in HU from beam hardening and photon starvation, slice by slice, through metal.

    The error of a ray is minus the square of its path through dense matter, less that without metal, plus noise
    that grows with the path; it is ramp filtered and projected back, as a scanner would do.
    """
    _, y, x = axes
    step = abs(float(x[1] - x[0]))
    angles = np.pi * (np.arange(NUM_VIEWS) + 0.5) / NUM_VIEWS
    reach = int(np.ceil(np.hypot(np.abs(y).max(), np.abs(x).max()) / step)) + 2
    bins = np.cos(angles)[:, None, None] * x[None, None, :] + np.sin(angles)[:, None, None] * y[None, :, None]
    bins = bins / step + reach
    low = np.floor(bins).astype(np.int32)
    share = bins - low
    error = np.zeros(metal.shape)
    for index in np.flatnonzero(metal.any(axis=(1, 2))):
        through_metal = _project(metal[index], low, share, 2 * reach + 2) * step
        through_bone = _project(dense[index], low, share, 2 * reach + 2) * step
        starved = np.minimum(through_metal, 25.0)
        hardened = -((starved + 0.25 * through_bone) ** 2 - (0.25 * through_bone) ** 2)
        rays = HARDENING * hardened + STARVATION * starved * rng.normal(size=starved.shape)
        error[index] = _back_project(_ramp(rays), low, share) * (np.pi / NUM_VIEWS)
    return np.clip(error, -600, 900)


def _project(image: np.ndarray, low: np.ndarray, share: np.ndarray, num_bins: int) -> np.ndarray:
    """Sums of `image` (H, W) along rays, (views, bins)."""
    rows, columns = np.nonzero(image)
    values = image[rows, columns]
    sums = np.empty((len(low), num_bins))
    for view, (first, part) in enumerate(zip(low[:, rows, columns], share[:, rows, columns], strict=True)):
        sums[view] = np.bincount(first, values * (1 - part), num_bins)[:num_bins]
        sums[view] += np.bincount(first + 1, values * part, num_bins)[:num_bins]
    return sums


def _ramp(rays: np.ndarray) -> np.ndarray:
    """Ramp filter with a Hann window, the end of the axis padded against wrap-around."""
    length = 2 * rays.shape[1]
    frequency = np.fft.rfftfreq(length)
    window = 2 * frequency * (0.5 + 0.5 * np.cos(2 * np.pi * frequency))
    return np.fft.irfft(np.fft.rfft(rays, length, axis=1) * window, length, axis=1)[:, : rays.shape[1]]


def _back_project(rays: np.ndarray, low: np.ndarray, share: np.ndarray) -> np.ndarray:
    image = np.zeros(low.shape[1:])
    for view, row in enumerate(rays):
        image += row[low[view]] * (1 - share[view]) + row[low[view] + 1] * share[view]
    return image
