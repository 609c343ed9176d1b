"""Structures to look up a dose in: an RTSTRUCT with or without its CT, a label map, or a folder of masks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np
from numpy.typing import NDArray

from medpipe.datasets.label_folders import LabelSource, find_label_sources, label_names, mask_files
from medpipe.datasets.manifest import Manifest
from medpipe.datasets.structure_names import AmbiguousName, resolve_names
from medpipe.geometry.faults import DataFault
from medpipe.geometry.volume import Grid, LabelMap, Shape, grid_differences

if TYPE_CHECKING:
    from medpipe.dicom.rtstruct import Roi, RtStruct

IN_PLANE_MM = 0.5  # of the grid that contours without a CT are drawn on
MARGIN_MM = 30.0  # around them, for a prediction that reaches further
_ONE_PLANE_MM = 0.05  # contours nearer than this lie in one plane


@final
@dataclass(frozen=True, eq=False)
class PlacedMask:
    """A mask, cut to the box that holds it: `array` begins at voxel `start` of the grid `whole`."""

    array: NDArray[np.bool_]
    start: Shape
    whole: Grid

    @classmethod
    def of(cls, mask: NDArray[np.bool_], whole: Grid) -> "PlacedMask":
        from medpipe.metrics.masks import joint_box

        box = joint_box(mask, mask)
        if box is None:
            return cls(np.zeros((0, 0, 0), bool), (0, 0, 0), whole)
        d, h, w = (axis.start for axis in box)
        return cls(mask[box].copy(), (d, h, w), whole)

    @property
    def is_empty(self) -> bool:
        return self.array.size == 0

    @property
    def stop(self) -> Shape:
        d, h, w = (a + size for a, size in zip(self.start, self.array.shape, strict=True))
        return d, h, w

    @property
    def grid(self) -> Grid:
        """Of the box."""
        return self.whole.box(self.start, self.stop)


def in_joint_box(masks: Sequence[PlacedMask]) -> list[NDArray[np.bool_]]:
    """Masks of one grid in the box that holds them all; `[]` where all are empty."""
    drawn = [mask for mask in masks if not mask.is_empty]
    if not drawn:
        return []
    low = np.min([mask.start for mask in drawn], axis=0)
    high = np.max([mask.stop for mask in drawn], axis=0)
    result = []
    for mask in masks:
        array = np.zeros(tuple(high - low), dtype=bool)
        if not mask.is_empty:
            array[tuple(slice(a, b) for a, b in zip(mask.start - low, mask.stop - low, strict=True))] = mask.array
        result.append(array)
    return result


@final
@dataclass(frozen=True, eq=False)
class DoseStructures:
    """The structures of one fraction by name, on one grid. `frames` of reference of the file, () where it has none."""

    path: Path
    masks: dict[str, PlacedMask]
    grid: Grid
    frames: tuple[str, ...] = ()
    patient_id: str = ""
    notes: list[str] = field(default_factory=list)


def read_structures(
    path: Path, manifest: Manifest, *, ct: Path | None = None, on: Grid | None = None, label_values: Mapping[str, int]
) -> DoseStructures:
    """The manifest's structures that the file or folder holds, on their own grid or brought to the grid `on`.

    path          an RTSTRUCT, a folder with one (and its CT), a label map, or a folder with one mask a structure
    ct            folder of the CT of an RTSTRUCT; without it the CT is looked for beside the file
    label_values  structure -> value, for a label map; else the manifest's, a dataset.json's or a predictions.json's

    An RTSTRUCT is checked against its CT. Without one its contours are drawn on a grid through their own planes.
    Raises DataFault.
    """
    source = _source(path)
    if source.form == "rtstruct":
        return _of_rtstruct(source.path, manifest, ct, on)
    if source.form == "masks":
        return _of_masks(source.path, manifest, on)
    return _of_label_map(source.path, manifest, label_values, on)


def _source(path: Path) -> LabelSource:
    if not path.exists():
        raise DataFault(path, "no such file or folder")
    if path.is_dir():
        below = path / "segmentations"
        folder = below if below.is_dir() else path
        if mask_files(folder):
            return LabelSource(path.name, "masks", folder)
        from medpipe.dicom.reading import dicom_files
        from medpipe.dicom.rtstruct import is_rtstruct

        found = [file for file in dicom_files(path) if is_rtstruct(file)]
        if len(found) != 1:
            listed = ": " + ", ".join(file.name for file in found) if found else ""
            raise DataFault(path, f"holds {len(found)} structure sets{listed}; give the file, or a folder of masks")
        return LabelSource(path.name, "rtstruct", found[0])
    from medpipe.dicom.rtstruct import is_rtstruct

    # Exports name an RTSTRUCT as they like: the content decides.
    if is_rtstruct(path):
        return LabelSource(path.stem, "rtstruct", path)
    return next(iter(find_label_sources(path).values()))


def _resolved(path: Path, names: Sequence[str], manifest: Manifest, notes: list[str], **options: Any) -> dict[str, int]:
    try:
        resolution = resolve_names(names, manifest.aliases, **options)
    except AmbiguousName as error:
        raise DataFault(path, str(error)) from None
    if not resolution.chosen:
        raise DataFault(
            path, f"none of its {len(names)} names is a structure of the manifest {manifest.manifest} "
            f"({', '.join(manifest.structures)}): {', '.join(names) or 'there are none'}",
        )  # fmt: skip
    unused = sorted({row.name for row in resolution.rows if row.structure is None})
    absent = [row.structure for row in resolution.rows if row.remark == "not found" and row.structure]
    taken = "; ".join(f"{names[index]} -> {structure}" for structure, index in resolution.chosen.items())
    notes.append(
        f"{path.name}: {taken}{'; not found: ' + ', '.join(absent) if absent else ''}"
        f"{'; not used: ' + ', '.join(unused) if unused else ''}"
    )
    return resolution.chosen


def _of_masks(folder: Path, manifest: Manifest, on: Grid | None) -> DoseStructures:
    from medpipe.geometry.nifti import read_mask

    notes: list[str] = []
    files = mask_files(folder)
    paths = list(files.values())
    masks: dict[str, PlacedMask] = {}
    grid = on
    for name, index in _resolved(folder, list(files), manifest, notes).items():
        labels = read_mask(paths[index], notes=notes)
        if grid is None:
            grid = labels.grid
        masks[name] = PlacedMask.of(_fitted(labels, paths[index], grid, on is not None, notes).array > 0, grid)
    assert grid is not None
    return DoseStructures(folder, masks, grid, notes=notes)


def _of_label_map(path: Path, manifest: Manifest, given: Mapping[str, int], on: Grid | None) -> DoseStructures:
    from medpipe.geometry.nifti import read_label_map

    notes: list[str] = []
    labels = read_label_map(path, notes=notes)
    names = {value: name for name, value in given.items()} or label_names(path, manifest) or label_names(path, None)
    if not names:
        raise DataFault(
            path, "nothing says which value is which structure: give `label_values`, a manifest with `label:`, or a "
            "dataset.json beside the file",
        )  # fmt: skip
    grid = on or labels.grid
    fitted = _fitted(labels, path, grid, on is not None, notes)
    values = list(names)
    chosen = _resolved(path, [names[value] for value in values], manifest, notes)
    masks = {name: PlacedMask.of(fitted.array == values[index], grid) for name, index in chosen.items()}
    return DoseStructures(path, masks, grid, notes=notes)


def _fitted(labels: LabelMap, path: Path, grid: Grid, may_resample: bool, notes: list[str]) -> LabelMap:
    from medpipe.geometry.resampling import resample_like

    differences = grid_differences(grid, labels.grid)
    if not differences:
        return labels
    if not may_resample:
        raise DataFault(path, f"does not lie on the grid of the other masks: {'; '.join(differences)}")
    notes.append(f"{path.name}: brought to the reference's grid by the nearest voxel ({'; '.join(differences)})")
    before_ml = np.count_nonzero(labels.array) * labels.grid.voxel_ml
    fitted = resample_like(labels, grid, num_threads=1)
    after_ml = np.count_nonzero(fitted.array) * grid.voxel_ml
    # Resampling alone moves a wall by half a voxel at most; more is cut off by the reference's image.
    if after_ml < 0.9 * before_ml:
        notes.append(
            f"{path.name}: {before_ml:.1f} ml became {after_ml:.1f} ml: it reaches beyond the reference's grid"
        )
    return fitted


def _of_rtstruct(path: Path, manifest: Manifest, ct: Path | None, on: Grid | None) -> DoseStructures:
    from medpipe.dicom.linking import check_linked, check_roi_linked
    from medpipe.dicom.planes import roi_mask
    from medpipe.dicom.rtstruct import read_rtstruct

    notes: list[str] = []
    structure_set = read_rtstruct(path, notes=notes)
    usable = [bool(roi.contours) for roi in structure_set.rois]
    chosen = _resolved(path, structure_set.names, manifest, notes, usable=usable)
    rois = {name: structure_set.rois[index] for name, index in chosen.items()}
    series = None if on is not None and ct is None else _series(structure_set, ct, notes)
    if series is not None:
        check_linked(structure_set, series, notes=notes)
        for roi in rois.values():
            check_roi_linked(roi, series, notes=notes)
    grid = on or (series.volume.grid if series is not None else contour_grid(structure_set, list(rois.values())))
    if series is None and on is None:
        notes.append(f"{path.name}: no CT of it, drawn on a grid of {grid.spacing_mm[0]:g} mm planes")
    outside, gaps = ("refuse", manifest.skipped_slices) if on is None else ("clip", "keep")
    masks = {
        name: PlacedMask.of(roi_mask(roi, grid, outside=outside, gaps=gaps, notes=notes), grid)
        for name, roi in rois.items()
    }
    frames = structure_set.frame_of_reference_uids
    return DoseStructures(path, masks, grid, frames, structure_set.patient_id, notes)


def _series(structure_set: "RtStruct", ct: Path | None, notes: list[str]) -> Any:
    """The CT series that the structure set refers to: in `ct`, where it must be, or beside the file, where it may."""
    from medpipe.dicom.series import find_series, read_series

    folder = ct or structure_set.path.parent
    found = find_series(folder)
    matching = [one for one in found if one.series_uid in structure_set.series_uids]
    if not matching and ct is not None and len(found) == 1:
        matching = found  # check_linked says what is wrong
    if not matching and ct is not None:
        raise DataFault(ct, f"holds {len(found)} CT series, none of them that of {structure_set.path.name}")
    return read_series(matching[0].paths, series_uid=matching[0].series_uid, notes=notes) if matching else None


def contour_grid(structure_set: "RtStruct", rois: Sequence["Roi"]) -> Grid:
    """A grid through the planes of the contours, 0.5 mm in plane, 30 mm around the regions `rois`.

    The planes are those of all regions of the file. DataFault where there are fewer than two.
    """
    contours = [contour.points_mm for roi in structure_set.rois for contour in roi.contours]
    normal = _normal(max((contour.points_mm for roi in rois for contour in roi.contours), key=len))
    offsets = np.sort([float((points @ normal).mean()) for points in contours])
    planes = offsets[np.concatenate([[True], np.diff(offsets) > _ONE_PLANE_MM])]
    if len(planes) < 2:
        raise DataFault(structure_set.path, "all contours lie in one plane: its thickness is unknown; give the CT")
    step = float(np.median(np.diff(planes)))
    towards = np.eye(3)[1 if abs(normal[0]) > 0.9 else 0]
    across = towards - (towards @ normal) * normal
    across /= np.linalg.norm(across)
    axes = np.stack([normal, np.cross(normal, across), across], axis=1)  # d, h, w
    points = np.concatenate([contour.points_mm for roi in rois for contour in roi.contours]) @ axes
    spacing = np.array([step, IN_PLANE_MM, IN_PLANE_MM])
    low = points.min(axis=0) - MARGIN_MM
    # The planes of the grid are planes of the contours.
    low[0] = planes[0] - np.ceil((planes[0] - low[0]) / step) * step
    shape = np.ceil((points.max(axis=0) + MARGIN_MM - low) / spacing).astype(int) + 1
    affine = np.eye(4)
    affine[:3, :3] = axes * spacing
    affine[:3, 3] = axes @ low
    return Grid((int(shape[0]), int(shape[1]), int(shape[2])), affine)


def _normal(points_mm: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of a contour's plane, towards the head; the patient's own axis where the plane is transverse."""
    centred = points_mm - points_mm.mean(axis=0)
    normal = np.linalg.svd(centred, full_matrices=False)[2][-1]
    if abs(abs(normal[2]) - 1) < 1e-6 or np.ptp(points_mm[:, 2]) < _ONE_PLANE_MM:
        return np.array([0.0, 0.0, 1.0])
    return normal * (1 if normal[2] >= 0 else -1)
