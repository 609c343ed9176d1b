"""All shapes of one case put together, so that no two organs share a voxel except uterus and target."""

from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from medpipe.datasets.phantom.applicator import make_applicator
from medpipe.datasets.phantom.body import Body, make_body
from medpipe.datasets.phantom.bowel import LargeBowel, Loop, make_large_bowel, make_small_bowel
from medpipe.datasets.phantom.build import Build, Draws
from medpipe.datasets.phantom.organs import OrganPlan, bladder, high_risk_ctv, uterus, vagina
from medpipe.datasets.phantom.shapes import FAR_MM, Space, carve
from medpipe.datasets.phantom.skeleton import Skeleton, make_skeleton


@dataclass(frozen=True, eq=False)
class Anatomy:
    """Signed distances in mm, (D, H, W), already carved against each other."""

    body: Body
    skeleton: Skeleton
    uterus: np.ndarray | None
    ctv: np.ndarray
    vagina: np.ndarray
    bladder: np.ndarray
    large_bowel: LargeBowel
    small_bowel: list[Loop]
    ovaries: np.ndarray
    metal: np.ndarray | None


def make_anatomy(
    space: Space, build: Build, plan: OrganPlan, draws: Draws, *, applicator: bool, num_small_bowel_loops: int
) -> Anatomy:
    body = make_body(space, build, draws.stream("vessels"))
    skeleton = make_skeleton(space, build)
    bones = skeleton.bones
    large = make_large_bowel(space, build, plan, draws.stream("colon"), draws.stream("bowel"))
    # Firm: bones, the abdominal wall, and the middle of the bowel, which is squeezed but never cut through.
    firm = np.minimum.reduce([bones - 1.0, -7.0 - body.muscle, large.loop.distance + 7.0])
    womb = carve(uterus(space, plan), firm, 1.0) if plan.has_uterus else None
    target = carve(high_risk_ctv(space, plan), firm, 1.0)
    female = target if womb is None else np.minimum(target, womb)
    canal = carve(vagina(space, plan, build, is_packed=applicator), female, 0.0)
    urinary = bladder(space, plan, np.minimum.reduce([female, canal, firm]))
    fixed = np.minimum.reduce([female, canal, urinary, bones - 1.0, -7.0 - body.muscle])
    large = _fitted(large, fixed, plan.fat_plane_mm)
    fixed = np.minimum(fixed, large.loop.distance)
    loop_draws = draws.stream("loops")
    ovaries = carve(_ovaries(space, plan, loop_draws), fixed, 1.0)
    loops = make_small_bowel(space, build, plan, loop_draws, num_small_bowel_loops, np.minimum(fixed, ovaries))
    metal = make_applicator(space, build, plan, draws.stream("applicator")) if applicator else None
    return Anatomy(body, skeleton, womb, target, canal, urinary, large, loops, ovaries, metal)


def _fitted(bowel: LargeBowel, fixed: np.ndarray, gap_mm: float) -> LargeBowel:
    """The bowel less what does not give way to it."""
    loop = replace(bowel.loop, distance=carve(bowel.loop.distance, fixed, gap_mm))
    anal_canal = carve(carve(bowel.anal_canal, fixed, gap_mm), loop.distance, 0.0)
    return replace(bowel, loop=loop, anal_canal=anal_canal)


def _ovaries(space: Space, plan: OrganPlan, rng: np.random.Generator) -> np.ndarray:
    """Two small lumps beside the uterus, of the same density as bowel."""
    if not plan.has_uterus:
        return np.full(space.shape, FAR_MM)
    sides = []
    for sign in (-1, 1):
        centre = np.add(plan.corpus, (sign * 36, rng.uniform(-14, 4), rng.uniform(-8, 8)))
        radius = rng.uniform(8, 13)
        squared = (space.x - centre[0]) ** 2 + (space.y - centre[1]) ** 2 + (space.z - centre[2]) ** 2
        sides.append(np.sqrt(squared) - radius)
    return np.minimum(*sides)


def masks_of(anatomy: Anatomy) -> dict[str, np.ndarray]:
    """Every structure as (D, H, W) bool, in one piece; one that the patient lacks is empty."""
    bowel, shape = anatomy.large_bowel, anatomy.ctv.shape
    distances = {
        "ctv_high_risk": anatomy.ctv,
        "bladder": anatomy.bladder,
        "rectum": bowel.distance("rectum"),
        "sigmoid_colon": bowel.distance("sigmoid_colon"),
        "uterus": anatomy.uterus,
        **{name: anatomy.skeleton.by_name[name] for name in BONES},
    }
    empty = np.zeros(shape, dtype=bool)
    return {name: empty if at is None else _largest_piece(at < 0) for name, at in distances.items()}


BONES = ("hip_left", "hip_right", "sacrum", "femur_left", "femur_right")


def _largest_piece(mask: np.ndarray) -> np.ndarray:
    pieces = np.zeros(mask.shape, dtype=np.int32)
    ndimage.label(mask, output=pieces)
    sizes = np.bincount(pieces.ravel())[1:]
    return mask if len(sizes) <= 1 else pieces == 1 + np.argmax(sizes)
