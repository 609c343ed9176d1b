"""The error of a wrong configuration: every problem with its file, line and column."""

from collections.abc import Iterable
from dataclasses import dataclass

from medpipe.config.origin import Origin


@dataclass(frozen=True)
class Problem:
    """One thing wrong; `file` is "command line: key=value" for an argument, which has no line."""

    file: str
    line: int | None
    column: int | None
    message: str

    @classmethod
    def at(cls, origin: Origin, message: str) -> "Problem":
        note = f" ({origin.note})" if origin.note else ""
        return cls(origin.source, origin.line, origin.column, message + note)

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}:{self.column}"
        return f"{place}: {self.message}"


class ConfigError(ValueError):
    """The YAML or the command line is wrong (exit code 2): all problems found, one a line."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        assert self.problems, "a ConfigError without a problem"
        super().__init__(self.problems)

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


def raise_if_any(problems: Iterable[Problem]) -> None:
    """Refuse with all of them at once; nothing where there are none. The same problem is told once."""
    unique = list(dict.fromkeys(problems))
    if unique:
        raise ConfigError(unique)
