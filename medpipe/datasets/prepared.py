"""Cases on one grid, ready to cut patches from: oriented, resampled, on disk as arrays that every process maps.

The cache holds HU, not normalised values: one entry serves every stage that shares its grid, whatever its intensity.
"""

import hashlib
import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from medpipe.datasets.cache import try_cached_folder
from medpipe.datasets.cases import Case, DataConfig
from medpipe.datasets.content import content_key
from medpipe.datasets.intensity import BODY_HU
from medpipe.datasets.label_store import LabelKind, stored_array, structure_voxels, to_grid
from medpipe.datasets.preprocessing import STORED_HU, Preprocessing
from medpipe.datasets.reading import IGNORED
from medpipe.geometry.volume import Grid, LabelMap, MaskStack, Volume

logger = logging.getLogger(__name__)

# Raised whenever an entry would come out otherwise for the same inputs: old entries are then never used again.
CACHE_VERSION = 1
# Voxels kept a structure to centre patches on, as nnU-Net keeps.
NUM_SAMPLES = 10_000
SECONDS_BETWEEN_LOOKS = 1.0  # for cases that other processes prepare
BODY = "body"  # the name of the samples of the patient's body; no structure, since structures are in the manifest

IMAGE, LABELS, SAMPLES = "image.npy", "labels.npy", "samples.npy"


@dataclass(frozen=True, eq=False)
class PreparedCase:
    """One case on the prepared grid; cheap to hold and to send to another process.

    structures        all that the case's manifest names; their order gives label values (1..S) and mask bits
    annotated         which of them are annotated in this case
    label_kind        how `labels()` are stored, see label_store.py
    num_voxels        of each structure on the prepared grid; num_ignored: voxels that the loss leaves out
    notes             what reading handled and what resampling lost
    """

    case_id: str
    patient_id: str
    folder: Path
    structures: tuple[str, ...]
    annotated: tuple[bool, ...]
    label_kind: LabelKind
    grid: Grid
    original_grid: Grid
    num_voxels: dict[str, int]
    num_ignored: int
    samples: dict[str, tuple[int, int]] = field(repr=False)
    notes: tuple[str, ...] = ()
    is_reused: bool = False

    def image(self) -> NDArray[np.int16]:
        """(D, H, W) HU, mapped from disk."""
        return np.load(self.folder / IMAGE, mmap_mode="r")

    def labels(self) -> NDArray[Any] | None:
        """The stored labels as `label_kind` says, mapped from disk."""
        return None if self.label_kind == "none" else np.load(self.folder / LABELS, mmap_mode="r")

    def sampled_voxels(self, name: str) -> NDArray[np.int32]:
        """(N, 3) indices of voxels of a structure, or of `BODY`, in random order, mapped from disk."""
        start, stop = self.samples.get(name, (0, 0))
        return np.load(self.folder / SAMPLES, mmap_mode="r")[start:stop]

    def is_annotated(self, structure: str) -> bool:
        """Whether the structure, if it is there, is labelled in this case."""
        return structure in self.structures and self.annotated[self.structures.index(structure)]


class _Request(NamedTuple):
    case: Case
    preprocessing: Preprocessing
    cache: Path


def prepare_cases(
    cases: Sequence[Case],
    preprocessing: Preprocessing,
    data: DataConfig,
    *,
    jobs: int = 1,
    first: int = 0,
    on_case: Callable[[PreparedCase], None] = lambda prepared: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> list[PreparedCase]:
    """The cases in order, each from the cache or made now; what a killed run has finished is not made again.

    Several processes may do so at once, on several hosts: each passes over what another is making, and waits for it
    at the end; what a process that died has begun is made by another after LEASE_SECONDS. first: where in the cases to
    begin, so that they do not all look at the same ones.

    Raises the first case's DataFault (`check_cases` finds all at once), WorkerDied, StopRequested.
    """
    from medpipe.datasets.estimates import estimated_bytes
    from medpipe.datasets.workers import StopRequested, work_through

    cache = data.cache.expanduser().absolute()
    found: dict[int, PreparedCase] = {}
    left = [*range(first, len(cases)), *range(first)]

    def take(index: int, result: PreparedCase | None) -> None:
        if result is not None:
            found[index] = result
            on_case(result)

    while left:
        work_through(
            _prepare,
            [_Request(cases[index], preprocessing, cache) for index in left],
            names=[cases[index].case_id for index in left],
            jobs=jobs,
            what="preparing cases",
            bytes_per_item=[estimated_bytes(cases[index], preprocessing.spacing_mm) for index in left],
            should_stop=should_stop,
            on_result=lambda place, result, round_=tuple(left): take(round_[place], result),
        )
        left = [index for index in left if index not in found]
        if left:
            logger.info("waiting for %d cases that other processes prepare", len(left))
            time.sleep(SECONDS_BETWEEN_LOOKS)
            if should_stop():
                raise StopRequested(f"{len(left)} cases left to other processes")
    reused = sum(case.is_reused for case in found.values())
    logger.info("prepared %d cases: %d made now, %d reused from %s", len(cases), len(cases) - reused, reused, cache)
    return [found[index] for index in range(len(cases))]


def prepared_key(case: Case, preprocessing: Preprocessing, cache: Path | None) -> str:
    """The name of the case's entry: content of its files, grid, version of this code."""
    parts = [CACHE_VERSION, content_key(case, cache), preprocessing.spacing_mm, preprocessing.interpolation]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:40]


def _prepare(request: _Request) -> PreparedCase | None:
    """None where another process is making it."""
    case, preprocessing, cache = request
    key = prepared_key(case, preprocessing, cache)
    folder = cache / "prepared" / key
    made = try_cached_folder(folder, lambda temporary: _build(case, preprocessing, key, temporary))
    if made is None:
        return None
    record, is_reused = made
    return PreparedCase(
        case_id=case.case_id,
        patient_id=case.patient_id,
        folder=folder,
        structures=tuple(record["structures"]),
        annotated=tuple(record["annotated"]),
        label_kind=record["label_kind"],
        grid=_grid(record["grid"]),
        original_grid=_grid(record["original_grid"]),
        num_voxels=record["num_voxels"],
        num_ignored=record["num_ignored"],
        samples={name: (start, stop) for name, (start, stop) in record["samples"].items()},
        notes=tuple(record["notes"]),
        is_reused=is_reused,
    )


def _build(case: Case, preprocessing: Preprocessing, key: str, folder: Path) -> dict[str, Any]:
    from medpipe.datasets.reading import read_case
    from medpipe.geometry.orientation import to_canonical
    from medpipe.geometry.resampling import resample_volume, resampled_grid

    notes: list[str] = []
    volume, labels, annotated = read_case(case, notes)
    original_grid = volume.grid
    volume = to_canonical(Volume(np.clip(volume.array, *STORED_HU), volume.affine))
    grid = resampled_grid(volume.grid, preprocessing.spacing_mm)
    hu = resample_volume(volume, grid, interpolation=preprocessing.interpolation).array
    image = np.clip(np.rint(hu), *STORED_HU).astype(np.int16)
    np.save(folder / IMAGE, image)
    del volume, hu
    label_kind, stored = _store_labels(labels, grid, case.structures, folder, notes)
    voxels = dict(zip(case.structures, structure_voxels(label_kind, stored, len(case.structures)), strict=True))
    return {
        "case_id": case.case_id,
        "structures": list(case.structures),
        "annotated": list(annotated),
        "label_kind": label_kind,
        "grid": _grid_record(grid),
        "original_grid": _grid_record(original_grid),
        "num_voxels": {name: len(flat) for name, flat in voxels.items()},
        "num_ignored": int(np.count_nonzero(stored == IGNORED)) if label_kind == "label_map" else 0,
        "samples": _store_samples({**voxels, BODY: np.flatnonzero(image > BODY_HU)}, grid, key, folder),
        "notes": notes,
    }


def _store_labels(
    labels: LabelMap | MaskStack | None, grid: Grid, structures: Sequence[str], folder: Path, notes: list[str]
) -> tuple[LabelKind, NDArray[Any]]:
    if labels is None:
        return "none", np.zeros((0, 0, 0), dtype=np.int16)
    kind, stored = stored_array(to_grid(labels, grid, structures, notes))
    np.save(folder / LABELS, stored)
    return kind, stored


def _store_samples(
    voxels: dict[str, NDArray[np.intp]], grid: Grid, key: str, folder: Path
) -> dict[str, tuple[int, int]]:
    """Up to 10 000 voxels each, drawn by the entry's key, below one another in one file."""
    rng = np.random.default_rng([int(key[:16], 16)])
    places: dict[str, tuple[int, int]] = {}
    drawn, count = [], 0
    for name, flat in voxels.items():
        chosen = rng.choice(flat, min(NUM_SAMPLES, len(flat)), replace=False) if len(flat) else flat
        drawn.append(np.stack(np.unravel_index(chosen, grid.shape), axis=1).astype(np.int32))
        places[name] = (count, count + len(chosen))
        count += len(chosen)
    np.save(folder / SAMPLES, np.concatenate(drawn))
    return places


def _grid_record(grid: Grid) -> dict[str, Any]:
    return {"shape": list(grid.shape), "affine": grid.affine.tolist()}


def _grid(record: dict[str, Any]) -> Grid:
    d, h, w = record["shape"]
    return Grid((d, h, w), np.array(record["affine"]))
