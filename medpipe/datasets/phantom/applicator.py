"""An intracavitary applicator: a tandem in the uterus with a ring or ovoids at the cervix, or a vaginal one."""

import numpy as np

from medpipe.datasets.phantom.build import Build
from medpipe.datasets.phantom.organs import OrganPlan, uterine_frame, vaginal_path
from medpipe.datasets.phantom.shapes import Space, curve, tube

TANDEM_RADIUS_MM = 2.5


def make_applicator(space: Space, build: Build, plan: OrganPlan, rng: np.random.Generator) -> np.ndarray:
    """Distance (D, H, W) in mm to the metal."""
    os = plan.cervix - 0.75 * plan.ctv_radii[2] * plan.axis
    shaft = vaginal_path(plan, build)
    if not plan.has_uterus:
        return tube(space, np.concatenate([shaft, plan.cervix[None]]), np.full(len(shaft) + 1, TANDEM_RADIUS_MM))[0]
    tip = plan.cervix + plan.axis * rng.uniform(34, 48)
    tandem = np.concatenate([shaft, curve([shaft[-1], plan.cervix, tip], step_mm=2.0)])
    metal, _ = tube(space, tandem, np.full(len(tandem), TANDEM_RADIUS_MM))
    colpostats = _ring(os, plan) if rng.random() < 0.6 else _ovoids(os, plan)
    return np.minimum(metal, tube(space, *colpostats)[0])


def _ring(centre: np.ndarray, plan: OrganPlan) -> tuple[np.ndarray, np.ndarray]:
    across, forwards, _ = uterine_frame(plan)
    angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    points = centre + 15 * (np.cos(angles)[:, None] * across + np.sin(angles)[:, None] * forwards)
    return points, np.full(len(points), 2.6)


def _ovoids(centre: np.ndarray, plan: OrganPlan) -> tuple[np.ndarray, np.ndarray]:
    across, forwards, _ = uterine_frame(plan)
    rods = [centre + sign * 14 * across + np.linspace(-9, 9, 10)[:, None] * forwards for sign in (-1, 1)]
    points = np.concatenate(rods)
    return points, np.full(len(points), 3.0)
