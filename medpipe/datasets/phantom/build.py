"""A patient's build: what is drawn once per patient, and how its coordinates lie on a case's grid."""

from dataclasses import dataclass

import numpy as np

from medpipe.datasets.phantom.shapes import Space, smooth_field

# Where the middle of the field of view lies in patient coordinates (origin between the femoral heads), in mm.
FIELD_CENTRE = np.array([0.0, -6.0, 25.0])

# The order is part of every draw's key.
STREAMS = (
    *("build", "vessels", "organs", "colon"),
    *("position", "filling", "bowel", "loops", "applicator", "tissue", "noise", "grid"),
)
OF_PATIENT = frozenset(STREAMS[:4])


@dataclass(frozen=True)
class Draws:
    """Random streams of one case. Those of the patient are the same for all fractions."""

    seed: int
    fraction: int

    def stream(self, name: str) -> np.random.Generator:
        fraction = 0 if name in OF_PATIENT else self.fraction
        return np.random.default_rng([self.seed, STREAMS.index(name), fraction])


@dataclass(frozen=True)
class Build:
    """Size of skeleton and layers. `scale` multiplies the skeleton's nominal millimetres."""

    scale: float
    half_width_mm: float
    front_mm: float
    back_mm: float
    lateral_fat_mm: float
    anterior_fat_mm: float
    posterior_fat_mm: float
    slenderness: float

    @property
    def centre_y_mm(self) -> float:
        return (self.front_mm + self.back_mm) / 2


def draw_build(rng: np.random.Generator) -> Build:
    """A small adult: the field of view is 300 x 240 mm, and arms and flanks should lie within."""
    scale, fatness = rng.uniform(0.84, 0.95), rng.beta(1.6, 1.6)
    lateral, anterior, posterior = 5 + 16 * fatness, 8 + 28 * fatness, 8 + 16 * fatness
    return Build(
        scale=scale,
        half_width_mm=129 * scale + lateral,
        front_mm=60 * scale + anterior,
        back_mm=-(86 * scale + posterior),
        lateral_fat_mm=lateral,
        anterior_fat_mm=anterior,
        posterior_fat_mm=posterior,
        slenderness=rng.uniform(0.0, 0.12),
    )


def place(axes: tuple[np.ndarray, np.ndarray, np.ndarray], rng: np.random.Generator, bend_mm: float) -> Space:
    """Patient coordinates on a grid: moved and turned by a few mm and degrees, and bent smoothly."""
    shift = rng.uniform((-5, -3, -7), (5, 3, 7))
    rotation = _rotation(np.deg2rad(rng.normal(0, (2.0, 1.5, 2.0)).clip(-5, 5)))
    z, y, x = (axis - offset for axis, offset in zip(axes, shift[::-1], strict=True))
    grid = np.meshgrid(z, y, x, indexing="ij")[::-1]
    turned = [sum(rotation[row, column] * grid[column] for column in range(3)) for row in range(3)]
    bends = [smooth_field(rng, (z, y, x), wavelength_mm=85.0) for _ in range(3)]
    bent = [
        part + np.clip(bend_mm * field, -2 * bend_mm, 2 * bend_mm) for part, field in zip(turned, bends, strict=True)
    ]
    return Space(*bent, axes=(z, y, x), rotation=rotation, bend_mm=4 * bend_mm)


def _rotation(angles: np.ndarray) -> np.ndarray:
    """About x, then y, then z; radians."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(angles), np.sin(angles)
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return about_z @ about_y @ about_x
