"""Boxes in an answer: found in any dress, turned to pixels by the declared convention, compared by overlap."""

import math
import re
from collections.abc import Sequence
from typing import NamedTuple, final

from medpipe.metrics.answer_extraction import Extraction
from medpipe.metrics.question_forms import AnswerForm, BoxForm

_NUMBER = r"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?"
_GROUP = re.compile(rf"[\[({{<]\s*{_NUMBER}(?:\s*(?:,|;|\s|><|>\s*<)\s*{_NUMBER}){{3}}\s*[\])}}>]")
_PAIRS = re.compile(  # (x1, y1), (x2, y2)
    rf"[\[(]\s*({_NUMBER})\s*,\s*({_NUMBER})\s*[\])](?:[\s,;:-]|to|and|at|is|the|bottom|lower|right|corner)*"
    rf"[\[(]\s*({_NUMBER})\s*,\s*({_NUMBER})\s*[\])]",
    re.IGNORECASE,
)
_NAMED = re.compile(  # x1=.., "left": ..
    r"\b(?:(?P<x1>x_?(?:1|min|left)|left)|(?P<y1>y_?(?:1|min|top)|top)|(?P<x2>x_?(?:2|max|right)|right)"
    r"|(?P<y2>y_?(?:2|max|bottom)|bottom)|(?P<x>x)|(?P<y>y)|(?P<w>w(?:idth)?)|(?P<h>h(?:eight)?))\W{0,4}[=:]\s*"
    rf"(?P<number>{_NUMBER})",
    re.IGNORECASE,
)
_UNIT = re.compile(r"(?<=\d)\s*(?:px|pixels?)\b", re.IGNORECASE)
_BARE = re.compile(rf"^\D*?({_NUMBER})[\s,;]+({_NUMBER})[\s,;]+({_NUMBER})[\s,;]+({_NUMBER})\D*$")
_ANGLES = re.compile(r"<\s*(N)\s*>\s*,?\s*<\s*(N)\s*>\s*,?\s*<\s*(N)\s*>\s*,?\s*<\s*(N)\s*>".replace("N", _NUMBER))


@final
class Box(NamedTuple):
    """Corners in pixels: (x1, y1) top left, (x2, y2) bottom right."""

    x1: float
    y1: float
    x2: float
    y2: float

    @property
    def area(self) -> float:
        return max(0.0, self.x2 - self.x1) * max(0.0, self.y2 - self.y1)

    def __str__(self) -> str:
        return "[" + ", ".join(f"{value:g}" for value in self) + "]"


def iou(first: Box, second: Box) -> float:
    """Intersection over union of two boxes of continuous coordinates; 0 where neither has an area."""
    overlap = Box(
        max(first.x1, second.x1), max(first.y1, second.y1), min(first.x2, second.x2), min(first.y2, second.y2)
    ).area
    union = first.area + second.area - overlap
    return overlap / union if union > 0 else 0.0


def read_box(text: str, form: AnswerForm) -> Extraction:
    """The one box of a normalised text, in pixels; its answer is `[x1, y1, x2, y2]`.

    Reversed corners are put in order, what leaves the image is cut off (both named by the rule); no area, several
    different boxes and none are told apart. A scale other than pixels needs the image's size.
    """
    plain = _UNIT.sub("", text)
    named = [_in_order(corners, form.box) for corners in _named_corners(plain)]
    found = list(dict.fromkeys(named or (numbers for numbers in _numbers(plain) if all(map(math.isfinite, numbers)))))
    if not found:
        return Extraction("unreadable", rule="no_box")
    if len(found) > 1:
        return Extraction("ambiguous", rule="several_boxes")
    corners = to_pixels(found[0], form.box, form.image_size)
    if corners is None:
        return Extraction("unreadable", rule="scale_needs_image_size")
    box = Box(
        min(corners[0], corners[2]),
        min(corners[1], corners[3]),
        max(corners[0], corners[2]),
        max(corners[1], corners[3]),
    )
    rule = "box" if box == corners else "corners_put_in_order"
    if form.image_size is not None:
        width, height = form.image_size
        inside = Box(max(0.0, box.x1), max(0.0, box.y1), min(float(width), box.x2), min(float(height), box.y2))
        rule = rule if inside == box else "cut_to_the_image"
        box = inside
    if box.area <= 0:
        return Extraction("unreadable", rule="no_area")
    return Extraction("answered", str(box), rule)


def to_pixels(numbers: Sequence[float], form: BoxForm, image_size: tuple[int, int] | None) -> Box | None:
    """Four numbers of a convention as corners in pixels; None where the image's size is needed and unknown."""
    a, b, c, d = numbers
    x1, y1, x2, y2 = {"xyxy": (a, b, c, d), "xywh": (a, b, a + c, b + d), "yxyx": (b, a, d, c)}[form.order]
    if form.scale == "pixels":
        return Box(x1, y1, x2, y2)
    if image_size is None:
        return None
    unit = 1.0 if form.scale == "unit" else 1000.0
    width, height = image_size
    return Box(x1 * width / unit, y1 * height / unit, x2 * width / unit, y2 * height / unit)


def parse_box(answer: str) -> Box:
    """Back from the text of an extraction."""
    return Box(*(float(part) for part in answer.strip("[]").split(",")))


def _named_corners(text: str) -> list[tuple[float, ...]]:
    """(x1, y1, x2, y2) of numbers that stand beside their names, in whatever order: corners, or a corner and a size."""
    found: list[tuple[float, ...]] = []
    values: dict[str, float] = {}
    for match in _NAMED.finditer(text):
        name = next(key for key in ("x1", "y1", "x2", "y2", "x", "y", "w", "h") if match.group(key))
        if name in values:
            values = {}
        values[name] = float(match.group("number"))
        if {"x1", "y1", "x2", "y2"} <= values.keys():
            corners = (values["x1"], values["y1"], values["x2"], values["y2"])
        elif {"x", "y", "w", "h"} <= values.keys():
            corners = (values["x"], values["y"], values["x"] + values["w"], values["y"] + values["h"])
        else:
            continue
        values = {}
        if all(map(math.isfinite, corners)):
            found.append(corners)
    return found


def _in_order(corners: Sequence[float], form: BoxForm) -> tuple[float, ...]:
    """Named corners as the declared convention would have written them: names say more than an order."""
    x1, y1, x2, y2 = corners
    return {"xyxy": (x1, y1, x2, y2), "xywh": (x1, y1, x2 - x1, y2 - y1), "yxyx": (y1, x1, y2, x2)}[form.order]


def _numbers(text: str) -> list[tuple[float, ...]]:
    """Every group of four numbers; labels such as `polyp 1:` are no part of one."""
    for pattern in (_ANGLES, _PAIRS):
        found = [tuple(float(number) for number in match.groups()) for match in pattern.finditer(text)]
        if found:
            return found
    grouped = [tuple(float(number) for number in re.findall(_NUMBER, group)) for group in _GROUP.findall(text)]
    if grouped:
        return grouped
    bare = _BARE.match(text)
    return [tuple(float(number) for number in bare.groups())] if bare else []
