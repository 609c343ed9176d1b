"""Rectum, sigmoid colon and descending colon as one winding tube, and small bowel as loops that look like it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medpipe.datasets.phantom.build import Build
from medpipe.datasets.phantom.organs import Obstacle, OrganPlan
from medpipe.datasets.phantom.shapes import Space, carve, curve, push_out, smoothed, tube
from medpipe.datasets.phantom.skeleton import SACRAL_CURVE, SACRAL_HALF_DEPTH

# Nominal (x, y, z) times the build's scale. The rectum follows the sacrum's hollow, a tube's radius in front of it.
ANAL_CANAL = ((0, -46, -84), (0, -38, -64), (0, -30, -46))
RECTUM = ((0, -30, -44), (0, -37, -26), (0, -44, -6), (0, -47, 16), (0, -43, 36), (0, -35, 52))
SIGMOID = ((6, -24, 64), (26, -8, 70), (18, 12, 78), (-10, 14, 80), (-36, 2, 76), (-54, -8, 84))
DESCENDING = ((-68, -12, 98), (-74, -10, 118), (-76, -8, 150))

PARTS = ("rectum", "sigmoid_colon", "descending_colon")
STEP_MM = 4.0


@dataclass(frozen=True, eq=False)
class Loop:
    """One stretch of bowel: distance (D, H, W) in mm, and by voxel the height of the axis point nearest to it."""

    distance: np.ndarray
    axis_y: np.ndarray
    station: np.ndarray
    wall_mm: float


@dataclass(frozen=True, eq=False)
class LargeBowel:
    """Rectum and colon as one loop, and by voxel the part of it that is nearest: an index into PARTS.

    After a Hartmann operation the rectum ends blind: no voxel belongs to a later part.
    """

    anal_canal: np.ndarray
    loop: Loop
    part: np.ndarray

    def distance(self, name: str) -> np.ndarray:
        """Signed distance (D, H, W) in mm to one part, cut off where the next one begins."""
        return np.where(self.part == PARTS.index(name), self.loop.distance, np.maximum(self.loop.distance, 0.1))


def make_large_bowel(
    space: Space, build: Build, plan: OrganPlan, patient: np.random.Generator, filling: np.random.Generator
) -> LargeBowel:
    rectum_radius = filling.uniform(14.0, 18.0)
    rectum = _rectal_path(build, plan, patient, filling, rectum_radius)
    rectum_radii = _rectal_radii(len(rectum), rectum_radius)
    canal = curve([*(build.scale * np.array(ANAL_CANAL, dtype=np.float64)), rectum[0]])
    anal_canal, _ = tube(space, canal, np.full(len(canal), 10.0))
    sigmoid_radius = filling.uniform(14.0, 16.5)
    colon, end = _sigmoid_path(build, plan, patient, filling, rectum[-1], sigmoid_radius)
    haustra = 1 + 0.10 * np.sin(np.arange(len(colon)) * STEP_MM * 2 * np.pi / 24 + filling.uniform(0, 6))
    colon_radii = sigmoid_radius * haustra * np.where(np.arange(len(colon)) > end, 0.85, 1.0)
    part_of_point = np.repeat([0, 1, 2], [len(rectum), end, len(colon) - end])
    path, radii = np.concatenate([rectum, colon]), np.concatenate([rectum_radii, colon_radii])
    if not plan.has_sigmoid:
        path, radii, part_of_point = rectum, rectum_radii, part_of_point[: len(rectum)]
    loop = _loop(space, path, radii, wall_mm=3.5)
    return LargeBowel(anal_canal, loop, part_of_point[loop.station])


def _loop(space: Space, path: np.ndarray, radii: np.ndarray, wall_mm: float) -> Loop:
    distance, nearest = tube(space, path, radii)
    return Loop(distance, axis_y=path[nearest, 1], station=nearest, wall_mm=wall_mm)


def _rectal_path(
    build: Build, plan: OrganPlan, patient: np.random.Generator, filling: np.random.Generator, radius: float
) -> np.ndarray:
    controls = build.scale * np.array(RECTUM, dtype=np.float64)
    # The valves of Houston: three alternating bends.
    side = patient.choice([-1, 1])
    controls[:, 0] += side * np.array([0, 1, -5, 5, -4, 0]) * patient.uniform(0.3, 1.2)
    controls[1:, :2] += filling.normal(0, 1.5, size=(len(controls) - 1, 2))
    if plan.has_uterus:
        # A uterus that leans backwards pushes the upper rectum to one side.
        controls[4:] = push_out(np.add(controls[4:], (side * 4.0, 0, 0)), 0.6 * radius, plan.obstacles[-1:])
    path = curve(controls)
    path[:, 1] = np.maximum(path[:, 1], _spine_front(path[:, 2], build) + 0.85 * radius)
    return smoothed(path, 2)


def _rectal_radii(num_points: int, radius: float) -> np.ndarray:
    """Narrow at the anal canal, widest in the ampulla."""
    return radius * np.interp(np.linspace(0, 1, num_points), [0, 0.2, 0.45, 1], [0.7, 0.95, 1.08, 0.9])


def _sigmoid_path(
    build: Build,
    plan: OrganPlan,
    patient: np.random.Generator,
    filling: np.random.Generator,
    start: np.ndarray,
    radius: float,
) -> tuple[np.ndarray, int]:
    """From the rectum's end over a loop to the left iliac fossa and on; and the index where the colon descends."""
    bend = build.scale * np.array(SIGMOID, dtype=np.float64)
    loop_side = 1.0 if patient.random() < 0.75 else -0.35
    bend[:3, 0] *= loop_side * patient.uniform(0.8, 1.25)
    bend += patient.normal(0, 4.0, size=bend.shape) + filling.normal(0, 2.5, size=bend.shape)
    path = curve([start, *bend, *(build.scale * np.array(DESCENDING, dtype=np.float64))])
    for _ in range(3):
        path = smoothed(push_out(path, radius + 1.5, plan.obstacles), 3)
        path[:, 1] = np.clip(path[:, 1], _spine_front(path[:, 2], build) + radius + 2.0, 52 * build.scale - radius)
    end = int(np.argmin(np.linalg.norm(path - bend[-1], axis=1)))
    return path, end


def _spine_front(z: np.ndarray, build: Build) -> np.ndarray:
    """y of the front of sacrum and lumbar spine at heights `z`, in mm."""
    front = SACRAL_CURVE[:, 0] + SACRAL_HALF_DEPTH
    heights, depths = [*SACRAL_CURVE[::-1, 1], 108.0], [*front[::-1], -4.0]
    return build.scale * np.interp(z / build.scale, heights, depths)


def make_small_bowel(
    space: Space, build: Build, plan: OrganPlan, rng: np.random.Generator, num_loops: int, keep_clear: np.ndarray
) -> list[Loop]:
    """Random loops in front of and above the pelvic organs, carved to leave `keep_clear` and each other free."""
    loops: list[Loop] = []
    taken = keep_clear
    for _ in range(num_loops):
        path = _wandering_path(build, rng, plan.obstacles)
        loop = _loop(space, path, np.full(len(path), rng.uniform(10.0, 14.0)), wall_mm=2.0)
        distance = carve(loop.distance, taken, 0.8)
        loops.append(Loop(distance, loop.axis_y, loop.station, loop.wall_mm))
        taken = np.minimum(taken, distance)
    return loops


def _wandering_path(build: Build, rng: np.random.Generator, obstacles: Sequence[Obstacle]) -> np.ndarray:
    low, high = build.scale * np.array([[-60, -22, 48], [60, 40, 140]], dtype=np.float64)
    controls = [rng.uniform(low, high)]
    for _ in range(5):
        step = rng.normal(0, 1, size=3)
        controls.append(np.clip(controls[-1] + 32 * step / np.linalg.norm(step), low, high))
    return smoothed(push_out(curve(controls), 13.0, obstacles), 2)
