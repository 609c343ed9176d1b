"""How numbers are printed: in the report (typographic) and in a terminal or log (plain ASCII)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

from medpipe.metrics.definitions import METRICS


@final
@dataclass(frozen=True)
class NumberStyle:
    """The signs around numbers."""

    plus_minus: str
    infinity: str
    unknown: str

    def number(self, value: float, metric: str) -> str:
        """A score with the places that carry meaning: thousandths of a share, hundredths of a millimetre."""
        if math.isnan(value):
            return self.unknown
        if math.isinf(value):
            return self.infinity
        return f"{value:.{places(metric)}f}"

    def mean_sd(self, row: Mapping[str, Any], metric: str) -> str:
        """`mean ± SD` over the finite values."""
        return f"{self.number(row['mean'], metric)} {self.plus_minus} {self.number(row['sd'], metric)}"

    def median_iqr(self, row: Mapping[str, Any], metric: str) -> str:
        """`median [q1, q3]` over all values."""
        median, q1, q3 = (self.number(row[name], metric) for name in ("median", "q1", "q3"))
        return f"{median} [{q1}, {q3}]"


PRINTED = NumberStyle(plus_minus="±", infinity="∞", unknown="–")
PLAIN = NumberStyle(plus_minus="+-", infinity="inf", unknown="-")


def places(metric: str) -> int:
    return 2 if METRICS[metric].unit else 3


def percent(share: float) -> str:
    return f"{100 * share:g} %"


def in_words(name: str) -> str:
    """`ctv_high_risk` as `ctv high risk`: for headings and legends."""
    return name.replace("_", " ")
