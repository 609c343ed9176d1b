"""Where a value of the configuration was written."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Origin:
    """A place in a file, an argument of the command line, or the default of a config class."""

    source: str  # the file as the user named it, "command line: key=value", or "default"
    line: int | None = None  # from 1
    column: int | None = None  # from 1
    note: str = ""  # how the value came there: "${env:HOME}", "default of segmentation_training"

    @property
    def place(self) -> str:
        """`file:line:column`, or the source alone where there is no line."""
        return self.source if self.line is None else f"{self.source}:{self.line}:{self.column}"

    def __str__(self) -> str:
        return f"{self.place} ({self.note})" if self.note else self.place

    def with_note(self, note: str) -> "Origin":
        return replace(self, note=f"{self.note}, {note}" if self.note else note)


DEFAULT = Origin("default")
