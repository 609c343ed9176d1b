"""Sizes in millimetres, as numbers and ranges: `< 6 mm`, `0mm < polyp < 6mm`, `5-10 mm`, `at least 3 cm`, `4 mm`."""

import math
import re
from typing import NamedTuple, final

# A number of something else (micrometres, inches, per cent, years) is no size.
_NUMBER = (
    r"(?<![\d.])(\d+(?:\.\d+)?)(?!\.?\d)(?!\s*(?:[µμu]m\b|microns?\b|inch|%|per ?cent|years?\b|days?\b|weeks?\b))"
    r"\s*(mm|millimet(?:er|re)s?|cm|centimet(?:er|re)s?)?"
)
_DECIMAL_COMMA = re.compile(r"(?<![\d,.])(\d{1,3}),(\d)(?=\s*[mc]m\b)", re.IGNORECASE)  # 0,5 cm
_BETWEEN = re.compile(rf"{_NUMBER}\s*(?:<=?)\s*[a-z ]*?\s*(?:<=?)\s*{_NUMBER}", re.IGNORECASE)
_RANGE = re.compile(rf"(?:between\s+)?{_NUMBER}\s*(?:-|to|and)\s*{_NUMBER}", re.IGNORECASE)
_BELOW = (
    r"(?:<=?|(?:less|smaller|lower|shorter) than(?: or equal to)?|under|below|up to|at most|no more than|not exceeding)"
)
_ABOVE = r"(?:>=?|(?:more|greater|larger|bigger|longer) than(?: or equal to)?|over|above|at least|exceeding|from)"
_BOTH = re.compile(rf"{_ABOVE}\s*{_NUMBER}\s*(?:,|and|but|or)*\s*(?:is\s+)?{_BELOW}\s*{_NUMBER}", re.IGNORECASE)
_UPPER = re.compile(rf"{_BELOW}\s*{_NUMBER}", re.IGNORECASE)
_LOWER = re.compile(
    rf"{_ABOVE}\s*{_NUMBER}|{_NUMBER}\s*(?:or (?:more|larger|greater|above)|and (?:above|over)|\+)", re.IGNORECASE
)
_ONE = re.compile(_NUMBER, re.IGNORECASE)


@final
class Size(NamedTuple):
    """From `low` to `high` mm; equal for one number."""

    low_mm: float
    high_mm: float

    def within(self, other: "Size") -> bool:
        """Whether all of it lies in `other`, whose upper end is not part of it for a single number."""
        if self.low_mm == self.high_mm:
            return other.low_mm <= self.low_mm < other.high_mm or self == other
        return other.low_mm <= self.low_mm and self.high_mm <= other.high_mm


def read_size(text: str) -> Size | None:
    """The one size that a normalised text gives; None where it gives none, or several that differ.

    Without a unit a number counts millimetres; in `1-2 cm` the unit holds for both.
    """
    found = _all_sizes(_DECIMAL_COMMA.sub(r"\1.\2", text))
    return found[0] if found and all(size == found[0] for size in found) else None


def _all_sizes(text: str) -> list[Size]:
    found: list[tuple[int, Size]] = []
    rest = text
    for pattern, bounds in (
        (_BOTH, "two"),
        (_BETWEEN, "two"),
        (_RANGE, "two"),
        (_UPPER, "high"),
        (_LOWER, "low"),
        (_ONE, "one"),
    ):
        for match in pattern.finditer(rest):
            size = _size(match, bounds)
            if size is not None:
                found.append((match.start(), size))
        rest = pattern.sub(lambda match: " " * len(match.group()), rest)
    return [size for _, size in sorted(found)]


def _size(match: re.Match[str], bounds: str) -> Size | None:
    groups = match.groups()
    if bounds == "two":
        low, low_unit, high, high_unit = groups
        unit = low_unit or high_unit
        ends = Size(_mm(low, unit), _mm(high, high_unit or unit))
        return ends if ends.low_mm <= ends.high_mm else None
    number, unit = next((groups[i], groups[i + 1]) for i in range(0, len(groups), 2) if groups[i] is not None)
    value = _mm(number, unit)
    return {"high": Size(0.0, value), "low": Size(value, math.inf), "one": Size(value, value)}[bounds]


def _mm(number: str, unit: str | None) -> float:
    return float(number) * (10.0 if unit and unit.lower().startswith("c") else 1.0)
