"""Aims as published, and what counts as met."""

import math

from medpipe.metrics.planning_aims import AIMS, check_aim, check_aims


def aim(source: str, structure: str, quantity: str):
    (found,) = [one for one in AIMS if (one.source, one.structure, one.quantity) == (source, structure, quantity)]
    return found


def test_the_published_limits() -> None:
    assert aim("achievability", "ctv_high_risk", "d90").text == "> 90 / > 85 Gy"
    assert aim("achievability", "ctv_intermediate_risk", "d98").text == "> 60 Gy"
    assert aim("achievability", "bladder", "d2cc").text == "< 80 / < 85 Gy"
    assert aim("astro", "bladder", "d2cc").text == "< 80 / < 90 Gy"
    assert aim("astro", "sigmoid_colon", "d2cc").text == "< 70 / < 75 Gy"


def test_statuses_of_an_organ_and_a_target() -> None:
    rectum, target = aim("achievability", "rectum", "d2cc"), aim("achievability", "ctv_high_risk", "d90")
    assert [check_aim(rectum, value) for value in (64.9, 65, 74.9, 75)] == [
        "met", "within hard limit", "within hard limit", "exceeded",
    ]  # fmt: skip
    assert [check_aim(target, value) for value in (90.1, 90, 85.1, 85)] == [
        "met", "within hard limit", "within hard limit", "not reached",
    ]  # fmt: skip
    assert check_aim(rectum, math.nan) == "not assessed"


def test_what_is_not_assessed_says_why() -> None:
    checks = check_aims({("rectum", "d2cc"): 60.0}, {("bladder", "d2cc"): "not drawn in fraction 2"})
    found = {(one.aim.source, one.aim.structure, one.aim.quantity): (one.status, one.reason) for one in checks}
    assert len(found) == len(AIMS)
    assert found["astro", "rectum", "d2cc"] == ("met", "")
    assert found["astro", "bladder", "d2cc"] == ("not assessed", "not drawn in fraction 2")
    assert found["astro", "bowel", "d2cc"] == ("not assessed", "the structure is not there")
    assert found["achievability", "icru_bladder_point", "point"] == ("not assessed", "points are not computed")
