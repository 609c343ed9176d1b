"""The bony pelvis: hips, sacrum, femurs, last lumbar vertebra, in nominal millimetres times the build's scale."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medpipe.datasets.phantom.build import Build
from medpipe.datasets.phantom.shapes import Space, Vector, ball, blend, capsules, carve

# (y, z) along the middle of the sacrum, from the promontory to the tip of the coccyx.
SACRAL_CURVE = np.array([(-31, 92), (-47, 76), (-66, 52), (-74, 30), (-70, 10), (-60, -6)], dtype=np.float64)
SACRAL_HALF_DEPTH = np.array([15, 13, 10.5, 8.5, 6, 4.5])
SACRAL_HALF_WIDTH = np.array([48, 47, 40, 30, 19, 9], dtype=np.float64)
HEAD_RADIUS = 22.0
HEAD_X = 83.0


@dataclass(frozen=True, eq=False)
class Skeleton:
    """Signed distances in mm, one (D, H, W) array a bone; `bones` is their union."""

    by_name: dict[str, np.ndarray]
    lumbar: np.ndarray

    @property
    def bones(self) -> np.ndarray:
        return np.minimum.reduce([*self.by_name.values(), self.lumbar])


def make_skeleton(space: Space, build: Build) -> Skeleton:
    scale = build.scale
    femurs = {side: _femur(space, scale, sign) for side, sign in (("left", -1), ("right", 1))}
    hips = {side: _hip(space, scale, sign) for side, sign in (("left", -1), ("right", 1))}
    sacrum = _sacrum(space, scale)
    by_name = {"sacrum": sacrum}
    for side in ("left", "right"):
        by_name[f"femur_{side}"] = femurs[side]
        # The joint space is about 3 mm; the sacroiliac joint about 2 mm.
        by_name[f"hip_{side}"] = carve(carve(hips[side], femurs[side], 3.0), sacrum, 2.0)
    return Skeleton(by_name, lumbar=carve(_lumbar(space, scale), sacrum, 3.0))


def _femur(space: Space, scale: float, sign: int) -> np.ndarray:
    def at(x: float, y: float, z: float) -> tuple[float, float, float]:
        return sign * x * scale, y * scale, z * scale

    head = ball(space, at(HEAD_X, 2, 0), HEAD_RADIUS * scale)
    rods = capsules(
        space,
        [
            (at(HEAD_X, 2, 0), at(108, -6, -22), 13 * scale, 14 * scale),
            (at(113, -10, -8), at(112, -8, -30), 12 * scale, 14 * scale),
            (at(110, -6, -30), at(104, -2, -110), 14.5 * scale, 13 * scale),
        ],
    )
    return blend(head, rods, 6.0)


def _hip(space: Space, scale: float, sign: int) -> np.ndarray:
    def at(x: float, y: float, z: float) -> tuple[float, float, float]:
        return sign * x * scale, y * scale, z * scale

    socket = np.maximum(
        ball(space, at(HEAD_X, 2, 0), 33 * scale),
        # The socket opens outwards and downwards.
        (sign * space.x - 94 * scale) * 0.85 - (space.z + 4 * scale) * 0.5,
    )
    arch = [
        (at(66, 20, 4), at(38, 40, 4), 9.5, 7.5),
        (at(38, 40, 4), at(10, 45, -10), 7.5, 9.5),
        (at(10, 45, -12), at(14, 38, -26), 9.0, 6.0),
        (at(14, 38, -26), at(46, -12, -52), 6.0, 7.5),
        (at(74, -18, -4), at(58, -30, -48), 14.0, 14.0),
        (at(78, -22, 10), at(52, -46, 22), 12.0, 5.0),
    ]
    rods = [(start, end, first * scale, last * scale) for start, end, first, last in arch]
    return blend(blend(socket, capsules(space, rods), 6.0), _ilium(space, scale, sign), 8.0)


def _ilium(space: Space, scale: float, sign: int) -> np.ndarray:
    """A fan of rods from the socket's roof to the crest, from the sacroiliac joint to the anterior spine."""
    crest = [
        (47, -68, 62),
        (52, -72, 88),
        (68, -58, 112),
        (88, -34, 128),
        (104, -6, 128),
        (112, 18, 108),
        (106, 34, 78),
    ]
    middle = [(54, -50, 48), (56, -48, 62), (68, -36, 74), (78, -22, 80), (87, -4, 78), (94, 12, 66), (94, 24, 48)]
    rods: list[tuple[Vector, Vector, float, float]] = []
    finer = np.linspace(0, len(crest) - 1, 3 * len(crest) - 2)
    for position in finer:
        edge = scale * _between(crest, position) * (sign, 1, 1)
        inner = scale * _between(middle, position) * (sign, 1, 1)
        root = scale * np.array([sign * 78, -6 + 1.5 * (position - 3), 22])
        rods += [
            (tuple(root), tuple(inner), 9 * scale, 5.5 * scale),
            (tuple(inner), tuple(edge), 5.5 * scale, 7 * scale),
        ]
    return capsules(space, rods)


def _between(points: Sequence[Sequence[float]], position: float) -> np.ndarray:
    table = np.asarray(points, dtype=np.float64)
    return np.array([np.interp(position, np.arange(len(table)), table[:, axis]) for axis in range(3)])


def _sacrum(space: Space, scale: float) -> np.ndarray:
    """A plate along a curve in the sagittal plane, wide above and narrow below, hollow at the back in its middle."""
    along = np.linspace(0, len(SACRAL_CURVE) - 1, 26)
    stations = np.arange(len(SACRAL_CURVE))
    level = np.full(space.shape, np.inf)
    depth = np.full(space.shape, scale)
    bowed, across = space.y - 0.0035 * space.x**2 / scale, space.x**4
    for position in along:
        y, z = (scale * np.interp(position, stations, SACRAL_CURVE[:, axis]) for axis in (0, 1))
        half_depth = scale * np.interp(position, stations, SACRAL_HALF_DEPTH)
        half_width = scale * np.interp(position, stations, SACRAL_HALF_WIDTH)
        off_plate_mm2 = (bowed - y) ** 2 + (space.z - z) ** 2
        here = off_plate_mm2 / half_depth**2 + (across / half_width**4)
        closer = here < level
        level[closer] = here[closer]
        depth[closer] = half_depth
    return (np.sqrt(level) - 1) * depth


def _lumbar(space: Space, scale: float) -> np.ndarray:
    body = [((0.0, -24 * scale, 112 * scale), (0.0, -20 * scale, 140 * scale), 21 * scale, 21 * scale)]
    spine = [((0.0, -46 * scale, 118 * scale), (0.0, -72 * scale, 108 * scale), 8 * scale, 5 * scale)]
    wings = [((-30 * scale, -40 * scale, 116 * scale), (30 * scale, -40 * scale, 116 * scale), 6 * scale, 6 * scale)]
    return capsules(space, [*body, *spine, *wings])
