"""One line of `medpipe doctor`."""

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "fault"]


@dataclass(frozen=True)
class Finding:
    """What was looked at, how it is, what was seen, and the way out where it is not well."""

    check: str
    level: Level
    text: str
    remedy: str = ""
    node: str = ""  # where several nodes were looked at
