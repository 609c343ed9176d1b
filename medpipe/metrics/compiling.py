"""Loops compiled by numba on first use, and kept on disk where there is a folder to keep them in."""

from collections.abc import Callable
from typing import Any

from numba import njit


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` compiled on first use, without the interpreter's lock; cached on disk beside the package if it can be.

    Otherwise in the user's cache folder, or in memory alone.
    """
    try:
        return njit(cache=True, nogil=True)(function)
    except RuntimeError:  # numba found no folder that it may write to
        return njit(nogil=True)(function)
