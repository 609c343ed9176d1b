"""The phases of a colonoscopy, in the fixed order of every table, and the spellings under which labels name them.

The order is that of the labels of REAL-Colon (doi:10.6084/m9.figshare.26472913). Anatomy is labelled after the caecum
is reached: all that is passed on the way in is `insertion`.
"""

import re
from collections.abc import Sequence
from types import MappingProxyType

import numpy as np

PHASES: tuple[str, ...] = (
    "outside",  # the scope is out of the body; also the class of privacy
    "insertion",
    "caecum",
    "ileum",
    "ascending",
    "transverse",
    "descending",
    "sigmoid",
    "rectum",
)
OUTSIDE, INSERTION, CAECUM, ILEUM, ASCENDING, TRANSVERSE, DESCENDING, SIGMOID, RECTUM = range(9)
WITHDRAWAL = range(CAECUM, RECTUM + 1)  # the classes 2 to 8 of the published withdrawal time

IGNORED = -1  # frames that nobody could name: left out of losses and scores
IGNORED_NAMES = ("n.a.", "uncertain")

# The official label files write `ceacum`, users of them `cecum`, anatomists `caecum`.
ALIASES = MappingProxyType(
    {
        "ceacum": CAECUM,
        "cecum": CAECUM,
        "terminal ileum": ILEUM,
        "ascending colon": ASCENDING,
        "transverse colon": TRANSVERSE,
        "descending colon": DESCENDING,
        "sigmoid colon": SIGMOID,
        "sigma": SIGMOID,
        "n.a": IGNORED,
        "na": IGNORED,
        "n/a": IGNORED,
        "ignored": IGNORED,
    }
)
_NUMBERS = {
    **{name: number for number, name in enumerate(PHASES)},
    **dict.fromkeys(IGNORED_NAMES, IGNORED),
    **ALIASES,
}


def phase_number(text: str) -> int:
    """The number of a phase as people write it; IGNORED for `n.a.` and `uncertain`.

    Case, outer blanks, and underscores or several blanks between words do not matter. Raises ValueError: not known.
    """
    number = _NUMBERS.get(re.sub(r"[\s_]+", " ", text.strip().lower()))
    if number is None:
        raise ValueError(
            f"unknown phase {text!r}; expected one of {', '.join(PHASES)} or {', '.join(IGNORED_NAMES)} "
            "(also ceacum, cecum)"
        )
    return number


def phase_name(number: int) -> str:
    """The name of a phase; `uncertain` for IGNORED."""
    return PHASES[number] if number != IGNORED else IGNORED_NAMES[-1]


def check_labels(name: str, labels: np.ndarray, num_phases: int) -> None:
    """Refuse labels (T,) that are no whole numbers from IGNORED to below `num_phases`."""
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"{name}: expected whole numbers (T,), got {labels.dtype} {labels.shape}")
    if labels.size and not IGNORED <= labels.min() <= labels.max() < num_phases:
        raise ValueError(
            f"{name}: labels from {labels.min()} to {labels.max()}; expected {IGNORED} (ignored) to {num_phases - 1}"
        )


def check_pair(ref: np.ndarray, pred: np.ndarray, num_phases: int) -> None:
    """Refuse a reference and a prediction of different lengths, or a prediction that leaves frames without a phase."""
    check_labels("reference", ref, num_phases)
    check_labels("prediction", pred, num_phases)
    if len(ref) != len(pred):
        raise ValueError(
            f"the reference has {len(ref)} frames, the prediction {len(pred)}; join them by time or frame name first"
        )
    if np.any(pred == IGNORED):
        raise ValueError(f"the prediction leaves {np.count_nonzero(pred == IGNORED)} frames without a phase")


def scored(ref: np.ndarray, *others: Sequence[float] | np.ndarray) -> tuple[np.ndarray, ...]:
    """The reference and what runs beside it, without the frames that the reference ignores."""
    kept = ref != IGNORED
    return (ref[kept], *(np.asarray(other)[kept] for other in others))
