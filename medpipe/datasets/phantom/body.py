"""The body around the organs: skin, fat, muscle, the fat-filled pelvic cavity, vessels, and the couch below."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from medpipe.datasets.phantom.build import Build
from medpipe.datasets.phantom.shapes import Space, blend, capsules, curve, tube


@dataclass(frozen=True, eq=False)
class Body:
    """Signed distances in mm, (D, H, W): `skin` the whole body, `muscle` what lies under the subcutaneous fat,
    `cavity` the pelvis and lower abdomen within the muscles, `psoas` and `vessels` inside the cavity."""

    skin: np.ndarray
    muscle: np.ndarray
    cavity: np.ndarray
    psoas: np.ndarray
    vessels: np.ndarray


def make_body(space: Space, build: Build, rng: np.random.Generator) -> Body:
    waist = 1 - build.slenderness * smooth_step((space.z - 40) / 80)
    skin = _outline(space, build.half_width_mm * waist, build.front_mm, build.back_mm, power=2.5)
    muscle = _outline(
        space,
        (build.half_width_mm - build.lateral_fat_mm) * waist,
        build.front_mm - build.anterior_fat_mm,
        build.back_mm + build.posterior_fat_mm,
        power=2.5,
    )
    cleft, legs = _cleft(space, build), _leg_gap(space, build)
    skin = np.maximum(skin, -np.minimum(cleft, legs))
    muscle = np.maximum(muscle, 9.0 - np.minimum(cleft, legs))
    return Body(
        skin, muscle, _cavity(space, build.scale), _psoas(space, build.scale), _vessels(space, build.scale, rng)
    )


def smooth_step(value: np.ndarray) -> np.ndarray:
    inside = np.clip(value, 0, 1)
    return inside * inside * (3 - 2 * inside)


def _outline(space: Space, half_width: np.ndarray, front: float, back: float, *, power: float) -> np.ndarray:
    half_depth, centre = (front - back) / 2, (front + back) / 2
    across, along = np.abs(space.x) / half_width, np.abs(space.y - centre) / half_depth
    level = (across**power + along**power) ** (1 / power)
    return (level - 1) * np.sqrt(half_width * half_depth)


def _cleft(space: Space, build: Build) -> np.ndarray:
    """The groove between the buttocks, deeper towards the feet."""
    depth = 30 * smooth_step((10 - space.z) / 60)
    behind = space.y - (build.back_mm + depth)
    return np.maximum(behind, np.abs(space.x) - 0.25 * np.maximum(-behind, 0) - 1.0)


def _leg_gap(space: Space, build: Build) -> np.ndarray:
    """The gap between the thighs below the perineum."""
    top = -58 * build.scale - 0.004 * (space.y + 10) ** 2
    return np.maximum(space.z - top, np.abs(space.x) - 0.35 * np.maximum(top - space.z, 0) - 1.5)


def _cavity(space: Space, scale: float) -> np.ndarray:
    """Lower pelvis between the obturator muscles, opening upwards and forwards to the abdominal wall."""
    opening = smooth_step((space.z / scale - 12) / 60)
    funnel = smooth_step((space.z / scale + 52) / 45)
    half_width = scale * (18 + 32 * funnel + 34 * opening)
    front = scale * (26 + 12 * funnel + 14 * smooth_step((space.z / scale - 4) / 25))
    back = -scale * (48 + 22 * funnel - 30 * smooth_step((space.z / scale - 50) / 50))
    half_depth, centre = (front - back) / 2, (front + back) / 2
    level = (np.abs(space.x / half_width) ** 2.6 + np.abs((space.y - centre) / half_depth) ** 2.6) ** (1 / 2.6)
    floor = -42 * scale - space.z - 0.003 * (space.x**2 + (space.y + 10) ** 2)
    return np.maximum((level - 1) * np.sqrt(half_width * half_depth), floor)


def _psoas(space: Space, scale: float) -> np.ndarray:
    sides = []
    for sign in (-1, 1):
        path = curve([(sign * x * scale, y * scale, z * scale) for x, y, z in PSOAS], step_mm=5.0)
        sides.append(tube(space, path, np.linspace(17, 15, len(path)) * scale)[0])
    return np.minimum(*sides)


PSOAS = ((40, -22, 150), (46, -14, 110), (58, 2, 70), (72, 22, 32), (84, 30, 0), (92, 18, -30))


def _vessels(space: Space, scale: float, rng: np.random.Generator) -> np.ndarray:
    """External iliac artery and vein of both sides, and one internal branch each."""
    rods = []
    for sign in (-1, 1):
        for offset in (-5.0, 5.0):
            jitter = rng.uniform(-3, 3, size=3)
            path = [
                np.multiply((sign * x, y, z), scale) + np.add(jitter, (offset * 0.6, offset, 0))
                for x, y, z in ((12, -2, 140), (30, -8, 104), (46, -2, 70), (56, 20, 36), (62, 42, 8), (66, 48, -60))
            ]
            rods += [(a, b, 4.6, 4.6) for a, b in pairwise(path)]
        rods.append((np.multiply((sign * 38, -20, 84), scale), np.multiply((sign * 46, -46, 40), scale), 4.0, 3.0))
    return blend(capsules(space, rods), capsules(space, rods[:2]), 2.0)
