"""One case's segmentation, in whatever form, as structures on a given grid; masks are read one at a time."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import final

import numpy as np

from medpipe.datasets.label_folders import LabelSource, mask_files
from medpipe.datasets.structure_names import AmbiguousName, normalise_name, resolve_names
from medpipe.geometry.faults import DataFault
from medpipe.geometry.nifti import read_label_map, read_mask
from medpipe.geometry.resampling import resample_like
from medpipe.geometry.volume import Grid, LabelMap, grid_differences
from medpipe.metrics.label_maps import values_in
from medpipe.metrics.scoring import LabelledMap, Masks, Structures

Aliases = Mapping[str, tuple[str, ...]]  # structure -> its names in files; empty: names are taken as they stand


@final
class LazyMasks(Mapping[str, np.ndarray]):
    """Structure -> mask, read when it is asked for, so that one mask is in memory at a time."""

    def __init__(self, readers: Mapping[str, Callable[[], np.ndarray]]) -> None:
        self.readers = readers

    def __getitem__(self, structure: str) -> np.ndarray:
        return self.readers[structure]()

    def __contains__(self, structure: object) -> bool:
        return structure in self.readers

    def __iter__(self) -> Iterator[str]:
        return iter(self.readers)

    def __len__(self) -> int:
        return len(self.readers)


class LabelReader:
    """A case's segmentation: `structures` by name, `grid` (None: contours, which have none), `on` a grid.

    names     of label values; empty: `label_<value>`
    resample  bring what lies on another grid there by its nearest voxel; False: DataFault in mm and degrees

    After `on`: `resampled` says whether that was done, `notes` what else was handled.
    """

    def __init__(self, source: LabelSource, names: Mapping[int, str], aliases: Aliases, *, resample: bool) -> None:
        self.source, self.names, self.aliases, self.resample = source, names, aliases, resample
        self.notes: list[str] = []
        self.resampled = False
        self.grid: Grid | None = None
        self._label_map: LabelMap | None = None
        self._values: dict[str, int] = {}
        self._files: dict[str, Path] = {}
        {"label_map": self._open_label_map, "masks": self._open_masks, "rtstruct": self._open_rtstruct}[source.form]()

    @property
    def structures(self) -> tuple[str, ...]:
        """All that the segmentation can hold, in its own order; a label map's named values even where none is there."""
        return tuple(self._values or self._files or self._rois)

    def on(self, grid: Grid) -> Structures:
        """The structures on `grid`. Raises DataFault."""
        if self.source.form == "label_map":
            assert self._label_map is not None
            return LabelledMap(self._fitted(self._label_map, self.source.path, grid).array, self._values)
        if self.source.form == "masks":
            return Masks(LazyMasks({name: self._mask_reader(path, grid) for name, path in self._files.items()}))
        return Masks(LazyMasks({name: self._roi_reader(name, grid) for name in self._rois}))

    def _open_label_map(self) -> None:
        self._label_map = read_label_map(self.source.path, notes=self.notes)
        self.grid = self._label_map.grid
        counts = values_in(self._label_map.array)
        if not self.names:
            self._values = {f"label_{value}": value for value in counts}
            return
        nameless = {value: count for value, count in counts.items() if value not in self.names}
        if nameless:
            listed = ", ".join(f"{value} ({count} voxels)" for value, count in list(nameless.items())[:8])
            self.notes.append(f"{self.source.path.name}: values without a name are not scored: {listed}")
        for value, name in self.names.items():
            if name in self._values:
                raise DataFault(self.source.path, f"{name} has two label values, {self._values[name]} and {value}")
            self._values[name] = value

    def _open_masks(self) -> None:
        files = mask_files(self.source.path)
        if self.aliases:
            try:
                chosen = resolve_names(list(files), self.aliases).chosen
            except AmbiguousName as error:
                raise DataFault(self.source.path, str(error)) from None
            self._files = {name: list(files.values())[index] for name, index in chosen.items()}
        else:
            self._files = files
        if not self._files:
            raise DataFault(self.source.path, f"none of its files is a structure of the manifest: {', '.join(files)}")
        self.grid = read_mask(next(iter(self._files.values()))).grid

    def _open_rtstruct(self) -> None:
        from medpipe.dicom.rtstruct import read_rtstruct

        structure_set = read_rtstruct(self.source.path, notes=self.notes)
        drawn = [roi for roi in structure_set.rois if roi.contours]
        aliases = self.aliases or {snake_case(roi.name): (roi.name,) for roi in drawn}
        try:
            resolution = resolve_names([roi.name for roi in drawn], aliases)
        except AmbiguousName as error:
            raise DataFault(self.source.path, str(error)) from None
        self._rois = {name: drawn[index] for name, index in resolution.chosen.items()}
        if not self._rois:
            raise DataFault(self.source.path, f"no region with contours is known: {', '.join(structure_set.names)}")
        self.patient_id = structure_set.patient_id
        if self.source.path.parent.name == self.source.case_id:
            self.grid = series_grid(self.source.path.parent, structure_set.series_uids)

    _rois: Mapping = {}
    patient_id = ""

    def _mask_reader(self, path: Path, grid: Grid) -> Callable[[], np.ndarray]:
        return lambda: self._fitted(read_mask(path, notes=self.notes), path, grid).array > 0

    def _roi_reader(self, name: str, grid: Grid) -> Callable[[], np.ndarray]:
        from medpipe.dicom.planes import roi_mask

        return lambda: roi_mask(self._rois[name], grid, outside="clip", gaps="keep", notes=self.notes)

    def _fitted(self, labels: LabelMap, path: Path, grid: Grid) -> LabelMap:
        differences = grid_differences(grid, labels.grid)
        if not differences:
            return labels
        if grid is self.grid and not self.resample:  # its own first mask's
            raise DataFault(
                path, f"does not lie on the grid of the case's first mask: {'; '.join(differences)}. Export all masks "
                "of a case on one grid",
            )  # fmt: skip
        if not self.resample:
            raise DataFault(
                path, f"does not lie on the reference's grid: {'; '.join(differences)}. Allow it with --resample"
            )
        self.resampled = True
        beyond = voxels_beyond(labels, grid)
        if beyond:
            whole = int(np.count_nonzero(labels.array))
            self.notes.append(
                f"{path.name}: {beyond} of {whole} labelled voxels lie beyond the reference's grid and are not scored"
            )
        return resample_like(labels, grid, num_threads=1)


def voxels_beyond(labels: LabelMap, grid: Grid) -> int:
    """Labelled voxels whose centre lies outside another grid; counted slice by slice, for the memory's sake."""
    count, ends = 0, np.asarray(grid.shape) - 0.5
    for d, plane in enumerate(labels.array):
        h, w = np.nonzero(plane)
        index = grid.world_to_index(labels.grid.index_to_world(np.stack([np.full(len(h), d), h, w], axis=1)))
        count += int(np.count_nonzero(((index < -0.5) | (index > ends)).any(axis=1)))
    return count


def snake_case(name: str) -> str:
    """A region's name as a structure's, where no manifest says better: 'HR-CTV' is hr_ctv."""
    words = "".join(letter if letter.isalnum() else " " for letter in name.casefold()).split()
    return "_".join(words) or normalise_name(name)


def series_grid(folder: Path, series_uids: tuple[str, ...]) -> Grid | None:
    """The grid of the CT series that a structure set refers to and that lies beside it, if any."""
    from medpipe.dicom.series import find_series, read_series

    for series in find_series(folder):
        if series.series_uid in series_uids:
            return read_series(folder, series_uid=series.series_uid).volume.grid
    return None
