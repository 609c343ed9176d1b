"""How labels lie in the cache, and how a patch of them becomes a training target.

A label map is int16: 0 background, 1..S structures, -1 ignored. Masks that may overlap are bits: structure s is bit
s % 8 of plane s // 8, so that a patch of ten structures reads two bytes a voxel, not ten.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from medpipe.datasets.reading import IGNORED
from medpipe.geometry.volume import Grid, LabelMap, MaskStack

LabelKind = Literal["none", "label_map", "masks"]
Output = Literal["softmax", "sigmoid"]


def to_grid(
    labels: LabelMap | MaskStack, grid: Grid, structures: Sequence[str], notes: list[str]
) -> LabelMap | MaskStack:
    """Labels, turned to canonical axes, on the prepared grid; `notes` receives what resampling lost."""
    from medpipe.geometry.orientation import to_canonical
    from medpipe.geometry.resampling import resample_label_map, resample_masks

    if isinstance(labels, MaskStack):
        return resample_masks(to_canonical(labels), grid, notes=notes)
    # A label of its own while resampling: an ignored region competes for voxels as a structure does.
    stand_in = len(structures) + 1
    shifted = LabelMap(np.where(labels.array == IGNORED, stand_in, labels.array).astype(np.int16), labels.affine)
    array = resample_label_map(to_canonical(shifted), grid).array.astype(np.int16)
    before = np.bincount(shifted.array.ravel(), minlength=stand_in + 1)
    after = np.bincount(array.ravel(), minlength=stand_in + 1)
    for number, name in enumerate(structures, start=1):
        if before[number] and not after[number]:
            notes.append(f"{name} ({before[number]} voxels) was too small and is lost by resampling")
    array[array == stand_in] = IGNORED
    return LabelMap(array, grid.affine)


def stored_array(labels: LabelMap | MaskStack) -> tuple[LabelKind, NDArray[Any]]:
    """The array that goes to disk: (D, H, W) int16, or bits (ceil(S / 8), D, H, W) uint8."""
    if isinstance(labels, LabelMap):
        return "label_map", labels.array
    return "masks", np.packbits(labels.array, axis=0, bitorder="little")


def structure_voxels(kind: LabelKind, stored: NDArray[Any], num_structures: int) -> list[NDArray[np.intp]]:
    """Flat indices of each structure's voxels."""
    if kind == "none":
        return [np.zeros(0, dtype=np.intp) for _ in range(num_structures)]
    if kind == "masks":
        return [np.flatnonzero(_bit(stored, index)) for index in range(num_structures)]
    flat = np.flatnonzero(stored > 0)
    values = stored.reshape(-1)[flat]
    return [flat[values == number] for number in range(1, num_structures + 1)]


def decode_target(
    stored: NDArray[Any], kind: LabelKind, structures: Sequence[str], wanted: Sequence[str], output: Output
) -> NDArray[Any]:
    """A patch of stored labels as a target.

    softmax: (D, H, W) int64, 0 background, k + 1 for wanted[k], -1 ignored. A wanted structure that the case does not
    annotate has no voxels here: its `is_annotated` says so to the loss.
    sigmoid: (len(wanted), D, H, W) uint8.
    """
    index = [structures.index(name) if name in structures else None for name in wanted]
    if output == "sigmoid":
        planes = [_plane(stored, kind, at) for at in index]
        return np.stack(planes) if planes else np.zeros((0, *stored.shape[-3:]), dtype=np.uint8)
    assert kind == "label_map", "softmax on overlapping masks is refused where the data set is made"
    table = np.zeros(len(structures) + 2, dtype=np.int64)
    table[IGNORED] = IGNORED  # the last entry
    for number, at in enumerate(index, start=1):
        if at is not None:
            table[at + 1] = number
    return table[stored]


def _plane(stored: NDArray[Any], kind: LabelKind, at: int | None) -> NDArray[np.uint8]:
    if at is None:
        return np.zeros(stored.shape[-3:], dtype=np.uint8)
    return _bit(stored, at) if kind == "masks" else (stored == at + 1).astype(np.uint8)


def _bit(stored: NDArray[np.uint8], index: int) -> NDArray[np.uint8]:
    return (stored[index // 8] >> np.uint8(index % 8)) & np.uint8(1)
