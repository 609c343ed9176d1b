"""The HU range and scale of a data set, by nnU-Net's rule, measured once and frozen."""

import hashlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from medpipe.config.base import Config
from medpipe.datasets.cases import Case
from medpipe.geometry.volume import LabelMap, MaskStack

# Over it lies the patient (and the couch), under it air and most of the lung.
BODY_HU = -300
# Shared by all cases. nnU-Net takes 1e8; the 0.5 and 99.5 percentiles of 1e7 are good to 0.002 percentile points.
MAX_VOXELS = 10_000_000
PERCENTILES = (0.5, 99.5)


class Intensity(Config):
    """Clip to `clip_hu`, subtract `mean_hu`, divide by `sd_hu`."""

    clip_hu: tuple[float, float]
    mean_hu: float
    sd_hu: float = Field(gt=0)

    @model_validator(mode="after")
    def _low_is_under_high(self) -> "Intensity":
        if self.clip_hu[0] >= self.clip_hu[1]:
            raise ValueError(f"clip_hu must be (low, high), got {self.clip_hu}")
        return self


class _Request(NamedTuple):
    case: Case
    structures: tuple[str, ...]
    num_voxels: int


def measure_intensity(
    cases: Sequence[Case],
    structures: Sequence[str] = (),
    *,
    clip_hu: tuple[float, float] | None = None,
    jobs: int = 1,
    should_stop: Callable[[], bool] = lambda: False,
) -> Intensity:
    """0.5 and 99.5 percentile, mean and SD of the voxels of the structures, over all cases on their original grids.

    structures   whose voxels count; () for all that are labelled. A case without any of them counts with its body
                 (over -300 HU), and so does every case of an unlabelled set.

    clip_hu      a window that is wanted instead of the percentiles; mean and SD are then those within it

    As nnU-Net, but for mean and SD the values are clipped first: metal at 30 000 HU would own the SD.
    Raises DataFault for a case that cannot be read.
    """
    from medpipe.datasets.estimates import estimated_bytes
    from medpipe.datasets.workers import work_through

    if not cases:
        raise ValueError("intensity cannot be measured on no cases at all")
    each = max(1, MAX_VOXELS // len(cases))
    drawn = work_through(
        _draw_voxels,
        [_Request(case, tuple(structures), each) for case in cases],
        names=[case.case_id for case in cases],
        jobs=jobs,
        what="measuring intensities",
        bytes_per_item=[estimated_bytes(case) for case in cases],
        should_stop=should_stop,
    )
    return intensity_of(np.concatenate(drawn), clip_hu)


def intensity_of(hu: NDArray[np.float32], clip_hu: tuple[float, float] | None = None) -> Intensity:
    """The statistics of a sample of voxels, within the window or within their own percentiles."""
    low, high = np.percentile(hu, PERCENTILES) if clip_hu is None else clip_hu
    if not low < high:
        raise ValueError(f"the voxels all lie at {low:g} HU; give `intensity` as numbers")
    clipped = np.clip(hu, low, high)
    return Intensity(
        clip_hu=(round(float(low), 2), round(float(high), 2)),
        mean_hu=round(float(clipped.mean(dtype=np.float64)), 3),
        sd_hu=round(float(clipped.std(dtype=np.float64)), 3),
    )


def _draw_voxels(request: _Request) -> NDArray[np.float32]:
    from medpipe.datasets.reading import read_case

    volume, labels, _ = read_case(request.case)
    chosen = _foreground(labels, request.case.structures, request.structures)
    if chosen is None or not chosen.any():
        chosen = volume.array > BODY_HU
    values = volume.array[chosen]
    if len(values) > request.num_voxels:
        # Keyed by the case, so that neither the order of the cases nor the number of jobs matters.
        key = int.from_bytes(hashlib.sha256(request.case.case_id.encode()).digest()[:8], "little")
        values = np.random.default_rng([1234, key]).choice(values, request.num_voxels, replace=False)
    return values.astype(np.float32)


def _foreground(
    labels: LabelMap | MaskStack | None, known: Sequence[str], wanted: Sequence[str]
) -> NDArray[np.bool_] | None:
    if labels is None:
        return None
    indices = [index for index, name in enumerate(known) if not wanted or name in wanted]
    if isinstance(labels, MaskStack):
        return np.logical_or.reduce(labels.array[indices], axis=0)
    return np.isin(labels.array, [index + 1 for index in indices])
