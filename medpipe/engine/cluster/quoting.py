"""Text that reaches a shell, a directive of sbatch, or a pattern of Slurm, as what it is and nothing more."""

import re
import shlex
from collections.abc import Iterable

PLAIN = re.compile(r"[A-Za-z0-9_@%+=:,./~-]+")


def shell(words: Iterable[str]) -> str:
    """Words as one line of a POSIX shell."""
    return " ".join(shlex.quote(word) for word in words)


def command(words: Iterable[str], indent: str = "    ") -> str:
    """Words as a command over several lines, broken before each option that follows the first line."""
    lines = [""]
    for word in words:
        quoted = shlex.quote(word)
        if word.startswith("--") and len(lines[-1]) + len(quoted) > 100:
            lines.append(indent)
        lines[-1] += quoted if lines[-1] in ("", indent) else f" {quoted}"
    return " \\\n".join(lines)


def directive(option: str, value: str | None = None) -> str:
    """`#SBATCH --option=value`. Slurm reads quotes and backslashes there as a shell would, but expands nothing."""
    text = option if value is None else f"{option}={value}"
    if not PLAIN.fullmatch(text):
        text = '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return f"#SBATCH {text}"


def no_pattern(path: str) -> str:
    """A path for --output, in which Slurm would expand %j and the like."""
    return path.replace("%", "%%")


def comment(text: str) -> str:
    """Text behind a `#`: line breaks would end the comment."""
    return "".join(character if character.isprintable() else "?" for character in text)


def job_name(*parts: str) -> str:
    """A name that every tool shows as it is."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", ".".join(parts))
