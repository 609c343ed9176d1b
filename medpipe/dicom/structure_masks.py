"""Segmented structures on the voxels of their CT series, one mask at a time, whichever form the prediction has."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from medpipe.geometry.orientation import canonical_grid, from_canonical, to_canonical
from medpipe.geometry.volume import Grid, LabelMap, MaskStack, check_same_grid


@dataclass(frozen=True, eq=False)
class StructureMasks:
    """`structures[i]` is mask i of a stack, or label i + 1 of a label map: of 117 masks only one exists at a time."""

    image: LabelMap | MaskStack
    structures: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        if isinstance(self.image, MaskStack):
            object.__setattr__(self, "structures", self.image.structures)
        elif not self.structures or int(self.image.array.max(initial=0)) > len(self.structures):
            raise ValueError(
                f"a label map with labels up to {self.image.array.max(initial=0)} needs a structure's name for each of "
                f"1 to {len(self.structures) or 'S'}, got {self.structures}"
            )

    def mask(self, structure: str) -> NDArray[np.bool_]:
        """(D, H, W) bool of one structure."""
        if isinstance(self.image, MaskStack):
            return self.image.mask(structure)
        return self.image.array == self.structures.index(structure) + 1

    def masks(self) -> Iterator[NDArray[np.bool_]]:
        return (self.mask(structure) for structure in self.structures)

    @property
    def grid(self) -> Grid:
        return self.image.grid

    def digest(self) -> str:
        """SHA-256 of names and voxels, the same for both forms."""
        sha = hashlib.sha256()
        for structure, mask in zip(self.structures, self.masks(), strict=True):
            sha.update(structure.encode() + b"\x1e")
            sha.update(np.packbits(mask).tobytes())
        return sha.hexdigest()

    def on_series_grid(self, grid: Grid) -> "StructureMasks":
        """With the series' axes: a permutation and flips, no resampling. ValueError if they lie on other voxels."""
        check_same_grid(canonical_grid(grid), canonical_grid(self.grid), "the mask stack", "the CT series")
        affine = canonical_grid(grid).affine
        if isinstance(self.image, MaskStack):
            stack = to_canonical(self.image)
            return StructureMasks(from_canonical(MaskStack(stack.array, affine, stack.structures), grid))
        labels = to_canonical(self.image)
        return StructureMasks(from_canonical(LabelMap(labels.array, affine), grid), self.structures)
