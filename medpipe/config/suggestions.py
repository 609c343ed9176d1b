"""What a misspelt name was probably meant to be."""

import difflib
from collections.abc import Iterable


def closest(name: str, known: Iterable[str]) -> str | None:
    """The known name most like `name` (difflib ratio 0.6), or the only one that begins with it; else None."""
    names = list(known)
    longer = [known_name for known_name in names if len(name) >= 3 and known_name.startswith(name)]
    similar = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    return similar[0] if similar else longer[0] if len(longer) == 1 else None


def suggestion(name: str, known: Iterable[str], known_are: str = "known") -> str:
    """`; did you mean 'x'?`, else `; known: a, b, c`, to stand behind an error; empty where nothing is known."""
    names = list(known)
    match = closest(name, names)
    if match is not None:
        return f"; did you mean '{match}'?"
    return f"; {known_are}: {', '.join(sorted(names))}" if names else ""
