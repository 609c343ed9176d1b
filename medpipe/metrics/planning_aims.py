"""Planning aims of gynaecologic brachytherapy as data, and whether a total dose meets them.

All limits are EQD2 in Gy over all fractions and the external beam.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

Status = Literal["met", "within hard limit", "exceeded", "not reached", "not assessed"]
Direction = Literal["at least", "at most"]

ACHIEVABILITY = (
    "EMBRACE-like practice (Int J Gynecol Cancer): the soft limit is met in 70 % of patients, the hard in 90 %"
)
ASTRO = "guideline: ideal and maximum; those of sigmoid colon and bowel rest on expert opinion"
SOURCES = {"achievability": ACHIEVABILITY, "astro": ASTRO}


@final
@dataclass(frozen=True)
class Aim:
    """One aim: `quantity` (d2cc, d90, d98, or point) of a structure; without a soft limit the hard one stands alone."""

    source: str
    structure: str
    quantity: str
    direction: Direction
    soft_gy: float
    hard_gy: float
    remark: str = ""

    @property
    def text(self) -> str:
        """As printed: `< 65 / < 75 Gy`."""
        sign = ">" if self.direction == "at least" else "<"
        if self.soft_gy == self.hard_gy:
            return f"{sign} {self.hard_gy:g} Gy"
        return f"{sign} {self.soft_gy:g} / {sign} {self.hard_gy:g} Gy"


AIMS = (
    Aim("achievability", "ctv_high_risk", "d90", "at least", 90, 85, "soft: 90 to 95 Gy"),
    Aim("achievability", "ctv_high_risk", "d98", "at least", 80, 75),
    Aim("achievability", "gtv_residual", "d98", "at least", 95, 90),
    Aim("achievability", "ctv_intermediate_risk", "d98", "at least", 60, 60),
    Aim("achievability", "rectum", "d2cc", "at most", 65, 75),
    Aim("achievability", "bladder", "d2cc", "at most", 80, 85, "EMBRACE II has a hard limit of 90 Gy"),
    Aim("achievability", "sigmoid_colon", "d2cc", "at most", 70, 75),
    Aim("achievability", "bowel", "d2cc", "at most", 65, 75),
    Aim("achievability", "icru_rectovaginal_point", "point", "at most", 65, 75),
    Aim("achievability", "icru_bladder_point", "point", "at most", 75, 85),
    Aim("astro", "rectum", "d2cc", "at most", 65, 75),
    Aim("astro", "bladder", "d2cc", "at most", 80, 90),
    Aim("astro", "sigmoid_colon", "d2cc", "at most", 70, 75, "expert opinion"),
    Aim("astro", "bowel", "d2cc", "at most", 70, 75, "expert opinion"),
)


@final
@dataclass(frozen=True)
class AimCheck:
    """An aim against a total; `reason` says why it was not assessed."""

    aim: Aim
    total_gy: float
    status: Status
    reason: str = ""


def check_aim(aim: Aim, total_gy: float) -> Status:
    """The status of a total EQD2 in Gy; NaN is not assessed. A limit itself is not met: aims are strict."""
    if math.isnan(total_gy):
        return "not assessed"
    if aim.direction == "at most":
        return "met" if total_gy < aim.soft_gy else "within hard limit" if total_gy < aim.hard_gy else "exceeded"
    return "met" if total_gy > aim.soft_gy else "within hard limit" if total_gy > aim.hard_gy else "not reached"


def check_aims(
    totals_gy: dict[tuple[str, str], float], reasons: dict[tuple[str, str], str], aims: Sequence[Aim] = AIMS
) -> list[AimCheck]:
    """Every aim against the totals by (structure, quantity); `reasons` for totals that are NaN or missing."""
    checks = []
    for aim in aims:
        key = (aim.structure, aim.quantity)
        total_gy = totals_gy.get(key, math.nan)
        status = check_aim(aim, total_gy)
        reason = ""
        if status == "not assessed":
            default = "points are not computed" if aim.quantity == "point" else "the structure is not there"
            reason = reasons.get(key, default)
        checks.append(AimCheck(aim, total_gy, status, reason))
    return checks
