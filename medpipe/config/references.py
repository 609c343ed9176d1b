"""The syntax of references: `${env:NAME}`, `${env:NAME,default}`, `${key.path}`; `$${` is a literal `${`."""

import re
from dataclasses import dataclass

_OPENING = re.compile(r"\$\$\{|\$\{")
_ENV = re.compile(r"env:([A-Za-z_][A-Za-z0-9_]*)(?:,(.*))?", re.DOTALL)
_KEY_PATH = re.compile(r"[\w-]+(\.[\w-]+)*")
FORMS = "${env:NAME}, ${env:NAME,default} or ${key.path}; for a literal '${' write '$${'"


@dataclass(frozen=True)
class Reference:
    text: str  # "${seed}"
    variable: str | None = None
    default: str | None = None
    path: tuple[str, ...] = ()


class InterpolationFault(ValueError):
    """What is wrong with one `${...}`, without its place."""


def is_key_reference(text: object) -> bool:
    """Whether a value is one `${key.path}` and nothing else."""
    return isinstance(text, str) and text[:2] == "${" and text[-1:] == "}" and bool(_KEY_PATH.fullmatch(text[2:-1]))


def escaped(text: str) -> str:
    """The text such that interpolation gives it back."""
    return text.replace("${", "$${")


def split(text: str) -> list[str | Reference]:
    """The literal pieces (unescaped) and the references of a text."""
    pieces: list[str | Reference] = []
    position = 0
    while opening := _OPENING.search(text, position):
        pieces.append(text[position : opening.start()])
        position = opening.end()
        if opening.group() == "$${":
            pieces.append("${")
            continue
        end = text.find("}", position)
        if end < 0:
            raise InterpolationFault(f"'{text[opening.start() :]}' is not closed by '}}'")
        pieces.append(_reference(text[position:end]))
        position = end + 1
    pieces.append(text[position:])
    return [piece for piece in pieces if piece != ""]


def _reference(inner: str) -> Reference:
    text = f"${{{inner}}}"
    if "${" in inner:
        raise InterpolationFault(f"'{text}': references cannot be nested")
    if env := _ENV.fullmatch(inner):
        default = env.group(2)
        return Reference(text, variable=env.group(1), default=None if default is None else default.strip())
    if _KEY_PATH.fullmatch(inner):
        return Reference(text, path=tuple(inner.split(".")))
    raise InterpolationFault(f"'{text}' is not understood; write {FORMS}")
