"""A seeded CT of a female pelvis with its structures: the data of the demo and of the tests.

Every patient differs in size, fat, filling of bladder and bowel, position of the uterus, course of the sigmoid colon;
organs of like density touch each other, bowel loops imitate the sigmoid colon, an applicator throws streaks. Position
in the body tells the structures apart, intensity does not (`benchmarks/phantom_difficulty.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field, model_validator

from medpipe.config.base import Config
from medpipe.datasets.phantom.build import FIELD_CENTRE, Build, Draws, draw_build, place
from medpipe.datasets.phantom.organs import draw_organs
from medpipe.datasets.phantom.shapes import Space
from medpipe.geometry.volume import MaskStack, Volume

if TYPE_CHECKING:
    from medpipe.datasets.phantom.anatomy import Anatomy

BRACHYTHERAPY_STRUCTURES = ("ctv_high_risk", "bladder", "rectum", "sigmoid_colon", "uterus")
BONE_STRUCTURES = ("hip_left", "hip_right", "sacrum", "femur_left", "femur_right")
PELVIC_STRUCTURES = BRACHYTHERAPY_STRUCTURES + BONE_STRUCTURES

# A voxel of metal counts from this width of its surface on, in mm.
METAL_EDGE_MM = 2.5

# Raised when the same seed and values give another phantom: it is part of the key under which phantoms are stored.
PHANTOM_VERSION = 1


class PelvisConfig(Config):
    """What a set of pelvic phantoms is like. Two phantoms with the same values and seed are the same."""

    spacing_mm: tuple[float, float, float] = Field(default=(4.0, 2.5, 2.5), description="voxel size along D, H, W")
    spacing_variation: float = Field(
        default=0.1, ge=0, le=0.5, description="largest relative change of it between cases"
    )
    size_mm: tuple[float, float, float] = Field(
        default=(180.0, 240.0, 300.0), description="field of view along D, H, W"
    )
    applicator: bool = Field(default=True, description="with an applicator of metal, packing and streaks")
    bladder_ml: tuple[float, float] = Field(
        default=(60.0, 280.0), description="range of the bladder's filling, before its neighbours dent it"
    )
    contrast_bladder_share: float = Field(
        default=0.08, ge=0, le=1, description="cases with contrast medium in the bladder"
    )
    missing_uterus_share: float = Field(default=0.08, ge=0, le=1, description="patients after hysterectomy")
    missing_sigmoid_share: float = Field(default=0.06, ge=0, le=1, description="patients without a sigmoid colon")
    num_small_bowel_loops: int = Field(default=7, ge=0, le=30, description="loops that imitate the sigmoid colon")
    deformation_mm: float = Field(default=2.5, ge=0, le=6, description="SD of the smooth bending of the whole body")
    noise_hu: float = Field(default=16.0, ge=0, description="SD of the noise in the middle of the body")
    streak_strength: float = Field(
        default=1.0, ge=0, description="of the metal's artefacts; 1 is a metal tandem without correction"
    )
    fractions: int = Field(
        default=1, ge=1, description="examinations of one patient: same anatomy, other filling and noise"
    )

    @model_validator(mode="after")
    def _check_sizes(self) -> PelvisConfig:
        if (
            min(self.spacing_mm) <= 0
            or min(size / step for size, step in zip(self.size_mm, self.spacing_mm, strict=True)) < 8
        ):
            raise ValueError(
                f"size_mm {self.size_mm} at spacing_mm {self.spacing_mm}: expected positive values and 8 voxels "
                "or more along each axis; take a larger size_mm or a smaller spacing_mm"
            )
        if not 10 <= self.bladder_ml[0] < self.bladder_ml[1] <= 450:
            raise ValueError(f"bladder_ml {self.bladder_ml}: expected 10 <= lowest < highest <= 450")
        return self

    def case_id(self, seed: int, fraction: int) -> str:
        """phantom_0003, or phantom_0003_fx1 where a patient comes more than once."""
        return patient_id(seed) if self.fractions == 1 else f"{patient_id(seed)}_fx{fraction + 1}"


@dataclass(frozen=True, eq=False)
class Phantom:
    """One examination. `volume`: int16 HU; `masks`: PELVIC_STRUCTURES, empty where the patient lacks one."""

    seed: int
    case_id: str
    patient_id: str
    volume: Volume
    masks: MaskStack


def generate_pelvis(seed: int, config: PelvisConfig, *, fraction: int = 0) -> Phantom:
    """The phantom of a patient (`seed`) at one fraction: a pure function of its arguments."""
    from medpipe.datasets.phantom.anatomy import make_anatomy, masks_of

    if seed < 0 or not 0 <= fraction < config.fractions:
        raise ValueError(
            f"phantom {seed}, fraction {fraction}: expected a seed >= 0 and a fraction below {config.fractions}"
        )
    draws = Draws(seed, fraction)
    build = draw_build(draws.stream("build"))
    plan = draw_organs(
        draws.stream("organs"),
        draws.stream("filling"),
        build,
        bladder_ml=config.bladder_ml,
        missing_uterus_share=config.missing_uterus_share,
        missing_sigmoid_share=config.missing_sigmoid_share,
    )
    axes, affine = _grid(config, draws)
    space = place(axes, draws.stream("position"), config.deformation_mm)
    anatomy = make_anatomy(
        space,
        build,
        plan,
        draws,
        applicator=config.applicator,
        num_small_bowel_loops=config.num_small_bowel_loops,
    )
    masks = masks_of(anatomy)
    stack = MaskStack(np.stack([masks[name] for name in PELVIC_STRUCTURES]), affine, PELVIC_STRUCTURES)
    volume = Volume(_image(config, space, build, anatomy, draws), affine)
    return Phantom(seed, config.case_id(seed, fraction), patient_id(seed), volume, stack)


def patient_id(seed: int) -> str:
    return f"phantom_{seed:04d}"


def _grid(config: PelvisConfig, draws: Draws) -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray], np.ndarray]:
    """Positions (z, y, x) of the voxel centres in mm, and the affine: rows run backwards and columns to the left."""
    rng = draws.stream("grid")
    in_plane, through = 1 + config.spacing_variation * rng.uniform(-1, 1, size=2)
    spacing = np.multiply(config.spacing_mm, (through, in_plane, in_plane))
    shape = [round(size / step) for size, step in zip(config.size_mm, spacing, strict=True)]
    steps = spacing * (1, -1, -1)
    z, y, x = (
        centre + step * (np.arange(count) - (count - 1) / 2)
        for centre, step, count in zip(FIELD_CENTRE[::-1], steps, shape, strict=True)
    )
    # The scanner's origin is not the patient's: the couch stands anywhere.
    origin = np.array([x[0], y[0], z[0]]) + rng.uniform((-20, 80, -900), (20, 160, 200))
    affine = np.eye(4)
    affine[:3, :3] = [[0, 0, steps[2]], [0, steps[1], 0], [steps[0], 0, 0]]
    affine[:3, 3] = np.round(origin, 3)
    return (z, y, x), affine


def _image(config: PelvisConfig, space: Space, build: Build, anatomy: Anatomy, draws: Draws) -> np.ndarray:
    """int16 HU (D, H, W)."""
    from medpipe.datasets.phantom.artefacts import add_couch, scan
    from medpipe.datasets.phantom.tissue import paint_anatomy

    hu = paint_anatomy(
        space, build, anatomy, draws.stream("tissue"), contrast_bladder_share=config.contrast_bladder_share
    )
    add_couch(hu, space.axes, top_mm=build.back_mm - 2.0)
    metal = None if anatomy.metal is None else np.clip(0.5 - anatomy.metal / METAL_EDGE_MM, 0, 1)
    rng = draws.stream("noise")
    noise_hu = config.noise_hu * rng.uniform(0.8, 1.25)
    is_body = anatomy.body.skin < 0
    return scan(hu, space.axes, is_body, metal, rng, noise_hu=noise_hu, streak_strength=config.streak_strength)
