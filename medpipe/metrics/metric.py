"""What a metric is, whatever it is of."""

from dataclasses import dataclass
from typing import final


@final
@dataclass(frozen=True)
class Metric:
    """How a score is called, read and defined."""

    title: str
    unit: str  # "" for a share between 0 and 1
    higher_is_better: bool | None  # None: best is no difference
    definition: str

    @property
    def heading(self) -> str:
        return f"{self.title} ({self.unit})" if self.unit else self.title
