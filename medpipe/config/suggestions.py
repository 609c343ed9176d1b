"""What a misspelt name was probably meant to be."""

import difflib
from collections.abc import Iterable


def closest(name: str, known: Iterable[str]) -> str | None:
    """The known name most like `name`, or None where none is much like it (difflib ratio 0.6)."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)), None)


def suggestion(name: str, known: Iterable[str], known_are: str = "known") -> str:
    """`; did you mean 'x'?`, else `; known: a, b, c`, to stand behind an error; empty where nothing is known."""
    names = list(known)
    match = closest(name, names)
    if match is not None:
        return f"; did you mean '{match}'?"
    return f"; {known_are}: {', '.join(sorted(names))}" if names else ""
