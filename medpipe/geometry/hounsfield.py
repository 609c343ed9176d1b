"""Are the values of a CT in Hounsfield units? Catches a rescale that was forgotten, and one that was applied twice."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medpipe.geometry.faults import DataFault
from medpipe.geometry.volume import Volume

AIR_HU = -1024.0  # below it lies padding outside the reconstruction circle (-2000, -3024), never tissue
_TOP_OF_12_BITS_HU = 3071
_NUM_SAMPLES = 2_000_000


def hu_fault(volume: Volume) -> str | None:
    """Why the values cannot be HU, or None.

    A rescale intercept of about -1024 that was never applied leaves air at 0, soft tissue near +1024 and nothing
    between -1000 and -200 (padding below that is left out of account). One that was applied twice leaves air at -2048,
    soft tissue near -1024 and next to nothing where soft tissue belongs. Artefacts and metal alone trip neither.
    """
    values = _sample(volume.array)
    soft_tissue = _share(values, -200, 300)
    if _share(values, 824, 1324) > 0.05 and _share(values, -1000, -200) < 0.001:
        return (
            "these are stored values, not HU: air lies at 0 and soft tissue near +1024, "
            "so the rescale intercept (usually -1024) was never applied; convert the series again with its rescale"
        )
    tissue_of_twice = _share(values, -1224, -724)
    if _share(values, -2148, -1948) > 0.01 and tissue_of_twice > 0.05 and soft_tissue < min(0.02, tissue_of_twice / 5):
        return (
            "the rescale intercept was applied twice: air lies at -2048 and soft tissue near -1024; "
            "convert the series again and apply its rescale once"
        )
    return None


def hu_notes(volume: Volume) -> list[str]:
    """One sentence each for padding below -1024 HU and for metal above the 12-bit scale; both are clipped later."""
    notes = []
    lowest, highest = float(volume.array.min()), float(volume.array.max())
    if lowest < AIR_HU:
        share = float(np.mean(volume.array < AIR_HU))
        notes.append(f"{share:.1%} of the voxels lie below {AIR_HU:.0f} HU (padding or artefact, down to {lowest:.0f})")
    if highest > _TOP_OF_12_BITS_HU:
        count = int(np.count_nonzero(volume.array > _TOP_OF_12_BITS_HU))
        notes.append(f"{count} voxels lie above {_TOP_OF_12_BITS_HU} HU (metal, up to {highest:.0f})")
    return notes


def check_hounsfield(path: Path | str, volume: Volume, notes: list[str] | None = None) -> None:
    """DataFault if the values of the CT at `path` cannot be HU; otherwise what is odd about them goes to `notes`."""
    reason = hu_fault(volume)
    if reason is not None:
        raise DataFault(path, reason)
    if notes is not None:
        notes.extend(hu_notes(volume))


def _sample(array: NDArray) -> NDArray:
    """Every n-th voxel, n odd so that it does not lock onto one column of the image."""
    step = max(1, array.size // _NUM_SAMPLES) | 1
    return array.reshape(-1)[::step]


def _share(values: NDArray, low: float, high: float) -> float:
    return float(np.mean((values >= low) & (values < high)))
