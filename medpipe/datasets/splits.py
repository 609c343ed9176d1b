"""Splits by patient, never by case: test part, folds, share of the labelled patients.

Every draw orders the patients by a hash of (seed, purpose, patient): the same on every machine, and a patient who joins
later moves nobody else's place by more than one. Shares are nested: the 10 % are among the 25 %.
"""

import hashlib
import math
from collections.abc import Iterable, Sequence
from typing import Literal

from medpipe.config.share import share_folder
from medpipe.datasets.cases import Case, patients
from medpipe.datasets.manifest import Manifest, TestPart

Part = Literal["all", "train", "test"]


def ordered_patients(patient_ids: Iterable[str], *, seed: int, purpose: str) -> list[str]:
    """Patients in an order that depends on (seed, purpose, patient) alone."""

    def place(patient_id: str) -> tuple[str, str]:
        return hashlib.sha256(f"{seed}\0{purpose}\0{patient_id}".encode()).hexdigest(), patient_id

    return sorted(set(patient_ids), key=place)


def select_part(cases: Sequence[Case], part: Part, *, source: Literal["files", "phantom"] = "files") -> list[Case]:
    """The cases of the manifest's training or test part.

    Raises ValueError where the manifest says nothing of a test part, where a listed patient is not there, or where
    nobody is left in the part that is asked for.
    """
    if part == "all" or not cases:
        return list(cases)
    manifest = cases[0].manifest
    test = test_patients(cases, manifest, source=source)
    chosen = [case for case in cases if (case.patient_id in test) == (part == "test")]
    if not chosen:
        raise ValueError(
            f"manifest {manifest.manifest}: no patient in part {part!r} of {len(patients(cases))} "
            f"({len(test)} of them in the test part); check `test:` in the manifest"
        )
    return chosen


def test_patients(cases: Sequence[Case], manifest: Manifest, *, source: Literal["files", "phantom"]) -> set[str]:
    """The patients of the test part."""
    there = patients(cases)
    if source == "phantom" and manifest.phantom is not None:
        return _drawn(there, manifest.phantom.test_share, 0) if manifest.phantom.test_share else set()
    if manifest.test is None:
        raise ValueError(f"manifest {manifest.manifest} has no `test:`; add one, or use part: all")
    if manifest.test.share is not None:
        return _drawn(there, manifest.test.share, manifest.test.seed)
    if manifest.test.split_column is not None:
        return {case.patient_id for case in cases if case.listed_part == "test"}
    listed = _listed(manifest.test)
    missing = sorted(set(listed) - set(there))
    if missing:
        raise ValueError(
            f"manifest {manifest.manifest}: test patients {', '.join(missing)} are not among the {len(there)} patients "
            f"of the data set ({', '.join(there[:5])}{', ...' if len(there) > 5 else ''})"
        )
    return set(listed)


test_patients.__test__ = False  # type: ignore[attr-defined]  # not a test, whatever pytest thinks of the name


def _drawn(there: Sequence[str], share: float, seed: int) -> set[str]:
    count = min(max(1, round(share * len(there))), len(there) - 1)
    return set(ordered_patients(there, seed=seed, purpose="test")[:count])


def _listed(test: TestPart) -> tuple[str, ...]:
    if test.patients is not None:
        return test.patients
    assert test.file is not None
    path = share_folder("data") / "splits" / test.file
    if not path.is_file():
        raise ValueError(f"test part: no file {path}")
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    return tuple(line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#"))


def split_fold(cases: Sequence[Case], *, fold: int, num_folds: int, seed: int) -> tuple[list[Case], list[Case]]:
    """Training and validation cases of one of `num_folds` folds; a patient is in exactly one fold's validation part.

    Raises ValueError where there are fewer patients than folds.
    """
    there = patients(cases)
    if not 0 <= fold < num_folds:
        raise ValueError(f"fold {fold} of {num_folds}: give 0 to {num_folds - 1}")
    if num_folds < 2 or num_folds > len(there):
        raise ValueError(
            f"{num_folds} folds of {len(there)} patients ({len(cases)} cases): give 2 to {len(there)} folds"
            if len(there) > 1
            else f"{num_folds} folds need at least 2 patients, got {len(there)}"
        )
    held_out = set(ordered_patients(there, seed=seed, purpose="fold")[fold::num_folds])
    training = [case for case in cases if case.patient_id not in held_out]
    return training, [case for case in cases if case.patient_id in held_out]


def labelled_share(cases: Sequence[Case], share: float, *, seed: int) -> list[Case]:
    """The cases of that share of the patients, rounded up, at least one; smaller shares are subsets of larger ones.

    The order of the patients does not depend on the fold, so that the shares of one fold are nested too.
    """
    if not 0 < share <= 1:
        raise ValueError(f"labelled share {share}: give a number over 0 and up to 1")
    there = ordered_patients(patients(cases), seed=seed, purpose="labelled")
    if not there:
        raise ValueError("labelled share of no cases at all")
    # 0.1 * 30 is 3.0000000000000004: rounding up must not make that 4.
    kept = set(there[: max(1, math.ceil(share * len(there) - 1e-9))])
    return [case for case in cases if case.patient_id in kept]
