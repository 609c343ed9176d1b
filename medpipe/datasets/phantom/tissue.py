"""From shapes to Hounsfield units before the scanner: every tissue with its texture, blended over a voxel's width."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from medpipe.datasets.phantom.anatomy import Anatomy
from medpipe.datasets.phantom.bowel import PARTS, Loop
from medpipe.datasets.phantom.build import Build
from medpipe.datasets.phantom.shapes import Space, smooth_field

AIR_HU = -1000.0
METAL_HU = 4500.0


@dataclass(eq=False)
class Canvas:
    """HU (D, H, W) that tissues are painted on one over the other, with partial volume at their surfaces."""

    hu: np.ndarray
    edge_mm: float

    def paint(self, distance: np.ndarray, hu: np.ndarray | float) -> None:
        share = np.clip(0.5 - distance / self.edge_mm, 0.0, 1.0)
        self.hu += share * (hu - self.hu)


def paint_anatomy(
    space: Space, build: Build, anatomy: Anatomy, rng: np.random.Generator, *, contrast_bladder_share: float
) -> np.ndarray:
    """HU (D, H, W) of the patient on the couch, without noise or artefacts."""
    canvas = Canvas(np.full(space.shape, AIR_HU), edge_mm=float(np.prod(space.spacing_mm) ** (1 / 3)))

    def texture(wavelength_mm: float, sd_hu: float) -> np.ndarray:
        return sd_hu * smooth_field(rng, space.axes, wavelength_mm)

    _paint_background(canvas, space, anatomy, texture, rng)
    _paint_bones(canvas, anatomy, texture)
    for loop in anatomy.small_bowel:
        _paint_bowel(canvas, space, loop, rng, texture, stool=np.zeros(()), gas_mm=9.0)
    canvas.paint(anatomy.ovaries, rng.uniform(20, 40) + texture(12, 6))
    _paint_female_organs(canvas, anatomy, texture, rng)
    _paint_bladder(canvas, space, anatomy.bladder, rng, contrast_bladder_share)
    bowel = anatomy.large_bowel
    canvas.paint(bowel.anal_canal, 48 + texture(12, 6))
    stool = np.where(bowel.part == PARTS.index("rectum"), rng.uniform(0.2, 1), 1.0)
    _paint_bowel(canvas, space, bowel.loop, rng, texture, stool=stool, gas_mm=4.0)
    if anatomy.metal is not None:
        canvas.paint(anatomy.metal, METAL_HU)
    return canvas.hu


Texture = Callable[[float, float], np.ndarray]


def _paint_background(
    canvas: Canvas, space: Space, anatomy: Anatomy, texture: Texture, rng: np.random.Generator
) -> None:
    body = anatomy.body
    canvas.paint(body.skin, rng.uniform(-20, 20))
    canvas.paint(body.skin + 2.0, -105 + texture(18, 8))
    canvas.paint(body.muscle, 52 + texture(14, 6))
    # Fat between muscles: sheets at two depths, and patches where a smooth field is high.
    depth = -body.muscle
    sheets = np.minimum(np.abs(depth - 17 - texture(60, 4)), np.abs(depth - 34 - texture(60, 5)))
    behind = np.maximum(sheets - 1.3, np.maximum(space.y + 20, 4 - depth))
    canvas.paint(behind, -90.0)
    canvas.paint(np.maximum(8 * (1.35 - texture(22, 1.0)), 3 - depth), -80.0)
    canvas.paint(body.cavity, -95 + texture(16, 9))
    # Vessels and strands in the fat of the cavity: tissue that is no organ.
    strands = 5 * (np.abs(texture(20, 1.0)) + np.abs(texture(20, 1.0))) - 1.1
    canvas.paint(np.maximum(strands, body.cavity + 1), 10.0)
    canvas.paint(body.psoas, 55 + texture(12, 6))
    canvas.paint(body.vessels, rng.choice([45.0, 45.0, 130.0]))


def _paint_bones(canvas: Canvas, anatomy: Anatomy, texture: Texture) -> None:
    """A cortex of about 2.5 mm around marrow with trabeculae."""
    for bone in (*anatomy.skeleton.by_name.values(), anatomy.skeleton.lumbar):
        canvas.paint(bone, 720 + texture(15, 60))
        canvas.paint(bone + 2.6, 190 + texture(9, 45))


def _paint_female_organs(canvas: Canvas, anatomy: Anatomy, texture: Texture, rng: np.random.Generator) -> None:
    """The uterus takes up some contrast medium, the tumour less of it; both stay in the range of muscle and bowel."""
    womb = rng.uniform(64, 80)
    tumour = womb - rng.uniform(26, 38)
    is_packed = anatomy.metal is not None
    packing = np.where(texture(7, 1.0) > 0.9, -250.0, 55.0 + texture(7, 25)) if is_packed else 45.0
    canvas.paint(anatomy.vagina, 48.0)
    canvas.paint(anatomy.vagina + 3.0, packing)
    if anatomy.uterus is not None:
        canvas.paint(anatomy.uterus, womb + texture(14, 7))
    canvas.paint(anatomy.ctv, tumour + texture(10, 9))


def _paint_bladder(
    canvas: Canvas, space: Space, bladder: np.ndarray, rng: np.random.Generator, contrast_share: float
) -> None:
    wall, urine = rng.uniform(2.0, 3.2), rng.uniform(0, 14)
    has_contrast, contrast_hu, level = rng.random() < contrast_share, rng.uniform(40, 180), rng.uniform(-0.3, 0.6)
    canvas.paint(bladder, rng.uniform(35, 48))
    content = np.full(space.shape, urine)
    if has_contrast and (bladder < 0).any():
        inside = space.y[bladder < 0]
        middle, half = (inside.max() + inside.min()) / 2, (inside.max() - inside.min()) / 2
        # Contrast is heavier than urine and lies behind it.
        content += contrast_hu * np.clip(0.5 - (space.y - middle - level * half) / 6.0, 0, 1)
    canvas.paint(bladder + wall, content)


def _paint_bowel(
    canvas: Canvas,
    space: Space,
    loop: Loop,
    rng: np.random.Generator,
    texture: Texture,
    *,
    stool: np.ndarray,
    gas_mm: float,
) -> None:
    """A wall, stool (mottled) or fluid (even) inside, and gas above it, for the patient lies on the back.

    `stool`: its share by voxel; `gas_mm`: mean height of the gas' lower surface above the bowel's axis.
    """
    canvas.paint(loop.distance, rng.uniform(35, 50))
    fluid = rng.uniform(8, 32)
    mottled = 25 + texture(9, 45) - 90 * (texture(7, 1.0) > 1.2)
    lumen = loop.distance + loop.wall_mm
    canvas.paint(lumen, stool * mottled + (1 - stool) * fluid)
    stations = int(loop.station.max()) + 1
    gas_level = _gas_level(rng, stations, mean_mm=gas_mm)[loop.station]
    gas = np.maximum(lumen, gas_level - (space.y - loop.axis_y))
    canvas.paint(gas, -930.0)


def _gas_level(rng: np.random.Generator, num_stations: int, *, mean_mm: float) -> np.ndarray:
    """Height of the gas' lower surface above the axis, in mm, changing slowly along the bowel."""
    knots = rng.normal(mean_mm, 9.0, size=max(2, num_stations // 6 + 2))
    return np.interp(np.arange(num_stations), np.linspace(0, num_stations - 1, len(knots)), knots)
