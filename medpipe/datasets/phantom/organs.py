"""Uterus, high-risk CTV, vagina and bladder: where a patient has them, and their shapes."""

from dataclasses import dataclass

import numpy as np

from medpipe.datasets.phantom.build import Build
from medpipe.datasets.phantom.shapes import Space, blend, carve, curve, ellipsoid, tube

Obstacle = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True, eq=False)
class OrganPlan:
    """Positions (x, y, z) and sizes in mm in patient coordinates; the uterus' axis points from cervix to fundus."""

    has_uterus: bool
    has_sigmoid: bool
    cervix: np.ndarray
    axis: np.ndarray
    corpus: np.ndarray
    corpus_radii: np.ndarray
    ctv_radii: np.ndarray
    extensions: tuple[Obstacle, ...]
    bladder: np.ndarray
    bladder_radii: np.ndarray
    fat_plane_mm: float

    @property
    def obstacles(self) -> list[Obstacle]:
        """What bowel has to go round, as ellipsoids with axes along x, y, z."""
        around = [(self.cervix, self.ctv_radii), (self.bladder, self.bladder_radii)]
        if self.has_uterus:
            around.append((self.corpus, np.full(3, float(self.corpus_radii.mean()))))
        return around


def draw_organs(
    patient: np.random.Generator,
    filling: np.random.Generator,
    build: Build,
    *,
    bladder_ml: tuple[float, float],
    missing_uterus_share: float,
    missing_sigmoid_share: float,
) -> OrganPlan:
    """The patient's own anatomy, and what changes from fraction to fraction: the bladder, and what it pushes."""
    has_uterus = bool(patient.random() >= missing_uterus_share)
    has_sigmoid = bool(patient.random() >= missing_sigmoid_share)
    retroverted, tilt, side = patient.random() < 0.2, patient.uniform(0, 1), patient.normal(0, 5)
    size, ctv_size = patient.uniform(0.85, 1.15), patient.uniform(0.9, 1.15)
    volume_mm3 = 1000 * np.exp(filling.uniform(*np.log(bladder_ml)))
    fullness = float(np.log(volume_mm3 / 1000 / bladder_ml[0]) / np.log(bladder_ml[1] / bladder_ml[0]))

    cervix = build.scale * np.array([0.0, -9.0, 14.0]) + (0.5 * side, -4 * fullness, filling.uniform(-3, 4))
    angle = np.deg2rad(-(3 + 9 * tilt) if retroverted else (22 + 43 * tilt) * (1 - 0.75 * fullness))
    axis = np.array([0.03 * side, np.sin(angle), np.cos(angle)])
    axis /= np.linalg.norm(axis)
    ctv_radii = ctv_size * np.array([25.0, 19.0, 23.0])
    if not has_uterus:
        ctv_radii = ctv_size * np.array([22.0, 17.0, 20.0])
    return OrganPlan(
        has_uterus=has_uterus,
        has_sigmoid=has_sigmoid,
        cervix=cervix,
        axis=axis,
        corpus=cervix + axis * (24 + 18 * size),
        corpus_radii=size * np.array([27.0, 21.0, 30.0]),
        ctv_radii=ctv_radii,
        extensions=_parametrial_extensions(patient, cervix),
        bladder=np.array([filling.normal(0, 3), *_bladder_middle(volume_mm3, fullness, build)]),
        bladder_radii=_bladder_radii(volume_mm3, fullness),
        fat_plane_mm=float(filling.uniform(0.2, 2.0)),
    )


def _parametrial_extensions(rng: np.random.Generator, cervix: np.ndarray) -> tuple[Obstacle, ...]:
    extensions = []
    for sign in (-1, 1):
        reach = rng.uniform(0, 12)
        if reach > 4:
            centre = np.add(cervix, (sign * (16 + reach / 2), rng.uniform(-5, 1), rng.uniform(-6, 4)))
            extensions.append((centre, np.array([10 + reach / 2, 10.0, 11.0])))
    return tuple(extensions)


def _bladder_radii(volume_mm3: float, fullness: float) -> np.ndarray:
    """A near-empty bladder is a flat dish behind the symphysis, a full one an egg that rises above it."""
    radius = (3 * volume_mm3 / (4 * np.pi)) ** (1 / 3)
    shape = np.array([1.28 - 0.12 * fullness, 1.0 - 0.16 * fullness, 0.78 + 0.24 * fullness])
    return radius * shape / np.prod(shape) ** (1 / 3)


def _bladder_middle(volume_mm3: float, fullness: float, build: Build) -> tuple[float, float]:
    _, half_depth, half_height = _bladder_radii(volume_mm3, fullness)
    front = build.scale * (33 + 19 * fullness)
    base = build.scale * -20
    return front - half_depth, base + half_height


def uterine_frame(plan: OrganPlan) -> np.ndarray:
    """Rows: the uterus' transverse, antero-posterior and long axis."""
    across = np.cross(plan.axis, np.array([0.0, -1.0, 0.0]) if plan.axis[2] > 0.5 else np.array([0.0, 0.0, 1.0]))
    across /= np.linalg.norm(across)
    return np.stack([across, np.cross(plan.axis, across), plan.axis])


def uterus(space: Space, plan: OrganPlan) -> np.ndarray:
    """Corpus and cervix."""
    corpus = ellipsoid(space, plan.corpus, plan.corpus_radii, uterine_frame(plan))
    neck = np.stack([plan.cervix - 14 * plan.axis, plan.cervix, plan.cervix + 24 * plan.axis])
    cervix, _ = tube(space, curve(neck), np.full(len(curve(neck)), 14.5))
    return blend(corpus, cervix, 10.0)


def high_risk_ctv(space: Space, plan: OrganPlan) -> np.ndarray:
    """The cervix with what a tumour has reached beside it."""
    shape = ellipsoid(space, plan.cervix, plan.ctv_radii, uterine_frame(plan))
    for centre, radii in plan.extensions:
        shape = blend(shape, ellipsoid(space, centre, radii), 8.0)
    return shape


def vaginal_path(plan: OrganPlan, build: Build) -> np.ndarray:
    """From the introitus to the cervical os, (N, 3)."""
    introitus = build.scale * np.array([0.0, 2.0, -72.0])
    os = plan.cervix - 0.85 * plan.ctv_radii[2] * plan.axis
    return curve([introitus, np.add((introitus + os) / 2, (0, -5, 0)), os])


def vagina(space: Space, plan: OrganPlan, build: Build, *, is_packed: bool) -> np.ndarray:
    path = vaginal_path(plan, build)
    widest = 15.0 if is_packed else 11.0
    return tube(space, path, np.linspace(9.0, widest, len(path)))[0]


def bladder(space: Space, plan: OrganPlan, neighbours: np.ndarray) -> np.ndarray:
    """An ellipsoid with a narrower neck, indented by `neighbours` (uterus, target, bone)."""
    shape = ellipsoid(space, plan.bladder, plan.bladder_radii)
    neck = plan.bladder - (0, 0, 0.75 * plan.bladder_radii[2])
    shape = blend(shape, ellipsoid(space, neck, 0.45 * plan.bladder_radii), 8.0)
    return carve(shape, neighbours, plan.fat_plane_mm)
