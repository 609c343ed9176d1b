"""Volumes, masks and label maps on another grid, by SimpleITK. No anti-aliasing, as nnU-Net: thin walls stay sharp."""

from dataclasses import replace
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from medpipe.geometry.hounsfield import AIR_HU
from medpipe.geometry.volume import Grid, LabelMap, MaskStack, Shape, Volume
from medpipe.geometry.world import sitk_frame, to_sitk

OnGrid = TypeVar("OnGrid", Volume, LabelMap, MaskStack)
Interpolation = Literal["cubic", "linear", "nearest"]

ANISOTROPY = 3.0  # of spacings; above it a spline through the slices rings (nnU-Net separates the axis there too)
_EPSILON = 1e-4  # of a share: what float32 weights and positions leave of an exact tie
_HALF = 0.5 - _EPSILON / 2  # the share at which a lone label beats the background, too
_SAME_DIRECTION = 1e-6  # of a direction cosine


def resampled_grid(grid: Grid, spacing_mm: tuple[float, float, float]) -> Grid:
    """The same box at exactly `spacing_mm` (D, H, W): sizes rounded, at least 1, and the two boxes' centres coincide.

    By rounding, each face may lie up to a quarter of a new voxel from the old one.
    """
    if min(spacing_mm) <= 0:
        raise ValueError(f"a spacing is above 0 mm, got {spacing_mm}")
    d, h, w = (
        max(1, round(size * old / new)) for size, old, new in zip(grid.shape, grid.spacing_mm, spacing_mm, strict=True)
    )
    centre_mm = grid.index_to_world((np.asarray([grid.shape]) - 1) / 2)[0]
    affine = np.eye(4)
    affine[:3, :3] = grid.direction * np.asarray(spacing_mm)
    affine[:3, 3] = centre_mm - affine[:3, :3] @ ((np.asarray([d, h, w]) - 1) / 2)
    return Grid((d, h, w), affine)


def resample_volume(
    volume: Volume,
    grid: Grid,
    *,
    interpolation: Literal["cubic", "linear"] = "cubic",
    fill: float = AIR_HU,
    num_threads: int | None = None,
) -> Volume:
    """The CT on `grid`; voxels outside its box get `fill`. The type (float32, int16 rounded) stays.

    cubic is a B-spline of order 3. Where one spacing of either grid is more than three times another, the coarsest axis
    is interpolated linearly and only the other two by the spline; between grids that are turned against each other
    there is no such axis, and all three are linear then.
    """
    if interpolation == "cubic" and max(_anisotropy(volume.grid), _anisotropy(grid)) > ANISOTROPY:
        resampled = _resample_separately(volume, grid, fill, num_threads)
    else:
        resampled = _resample(volume.array.astype(np.float32, copy=False), volume.grid, grid, interpolation, fill,
                              num_threads)  # fmt: skip
    return Volume(_as_type(resampled, volume.array.dtype), grid.affine)


def resample_masks(
    masks: MaskStack, grid: Grid, *, notes: list[str] | None = None, num_threads: int | None = None
) -> MaskStack:
    """Each mask interpolated linearly and cut at 0.5 (half counts as inside, so that halving keeps thin sheets).

    `notes` receives a sentence for each structure that was lost for being too small.
    """
    result = np.zeros((len(masks.structures), *grid.shape), dtype=bool)
    for index, structure in enumerate(masks.structures):
        mask = masks.array[index]
        for start, stop in _boxes(mask.view(np.uint8)).values():
            where, share = _resample_box(mask[_slices(start, stop)], masks.grid.box(start, stop), grid, num_threads)
            result[index][where] = share >= _HALF
        if notes is not None and mask.any() and not result[index].any():
            count = int(np.count_nonzero(mask))
            notes.append(f"{structure} ({count} voxels) was too small and is lost by resampling to {_mm(grid)}")
    return MaskStack(result, grid.affine, masks.structures)


def resample_label_map(label_map: LabelMap, grid: Grid, *, num_threads: int | None = None) -> LabelMap:
    """Each label and the background interpolated linearly, the largest share wins; ties go to the lower label, and to a
    label rather than to the background.

    One label at a time and in its own box, so memory is two float32 arrays of the result's size whatever their number.
    """
    result = np.zeros(grid.shape, dtype=label_map.array.dtype)
    best = np.zeros(grid.shape, dtype=np.float32)
    total = np.zeros(grid.shape, dtype=np.float32)
    values, compact = _compact_labels(label_map.array)
    for number, (start, stop) in _boxes(compact).items():
        mask = compact[_slices(start, stop)] == number
        where, share = _resample_box(mask, label_map.grid.box(start, stop), grid, num_threads)
        is_best = share > best[where] + _EPSILON
        result[where][is_best] = values[number - 1]
        np.maximum(best[where], share, out=best[where])
        total[where] += share
    result[best < 1 - total - _EPSILON] = 0
    return LabelMap(result, grid.affine)


def resample_like(image: OnGrid, grid: Grid, *, num_threads: int | None = None) -> OnGrid:
    """The image on another's grid: a volume linearly, labels and masks by their nearest voxel; outside is background.

    For comparing on a reference's grid: nearest invents no label and loses none by averaging.
    """
    if isinstance(image, Volume):
        return resample_volume(image, grid, interpolation="linear", num_threads=num_threads)
    lead = image.array.shape[:-3]
    result = np.zeros((*lead, *grid.shape), dtype=image.array.dtype)
    for index in np.ndindex(lead):
        array = image.array[index]
        stored = array.view(np.uint8) if array.dtype == np.bool_ else array  # SimpleITK knows no bool
        result[index] = _resample(stored, image.grid, grid, "nearest", 0, num_threads)
    return replace(image, array=result, affine=grid.affine)


def _resample(
    array: NDArray[Any], source: Grid, target: Grid, interpolation: Interpolation, fill: float, num_threads: int | None
) -> NDArray[Any]:
    """(D, H, W) on `source` to `target`. ITK's spline needs four voxels on each axis; fewer are linear."""
    import SimpleITK as sitk

    if interpolation == "cubic" and min(array.shape) < 4:
        interpolation = "linear"
    resampler = sitk.ResampleImageFilter()
    resampler.SetInterpolator(
        {"cubic": sitk.sitkBSpline, "linear": sitk.sitkLinear, "nearest": sitk.sitkNearestNeighbor}[interpolation]
    )
    resampler.SetSize(target.shape[::-1])
    resampler.SetOutputSpacing(target.spacing_mm[::-1])
    origin, direction = sitk_frame(target)
    resampler.SetOutputOrigin(origin)
    resampler.SetOutputDirection(direction)
    resampler.SetDefaultPixelValue(fill)
    if num_threads is not None:
        resampler.SetNumberOfThreads(num_threads)
    return sitk.GetArrayFromImage(resampler.Execute(to_sitk(array, source)))


def _resample_separately(volume: Volume, grid: Grid, fill: float, num_threads: int | None) -> NDArray[np.float32]:
    """Slices across the coarsest axis by a 2D spline, then linearly along that axis."""
    array = volume.array.astype(np.float32, copy=False)
    if np.abs(volume.grid.direction - grid.direction).max() > _SAME_DIRECTION:
        return _resample(array, volume.grid, grid, "linear", fill, num_threads)
    finer = grid if _anisotropy(grid) > _anisotropy(volume.grid) else volume.grid
    axis = int(np.argmax(finer.spacing_mm))
    # Between grids that are not turned, index in the source = step * index in the target + first, axis by axis.
    step = np.asarray(grid.spacing_mm) / np.asarray(volume.spacing_mm)
    first = volume.grid.world_to_index(grid.origin_mm[None])[0]
    in_plane = [other for other in range(3) if other != axis]
    shape = (grid.shape[in_plane[0]], grid.shape[in_plane[1]])
    slices = np.moveaxis(array, axis, 0)
    planes = np.stack([_spline_slice(s, shape, step[in_plane], first[in_plane], fill, num_threads) for s in slices])
    resampled = _linear_along_first(planes, grid.shape[axis], step[axis], first[axis], fill)
    return np.ascontiguousarray(np.moveaxis(resampled, 0, axis))


def _spline_slice(
    array: NDArray[np.float32],
    shape: tuple[int, int],
    step: NDArray[np.float64],
    first: NDArray[np.float64],
    fill: float,
    num_threads: int | None,
) -> NDArray[np.float32]:
    """One slice by a cubic spline, in index coordinates (rows, columns) of the source."""
    import SimpleITK as sitk

    resampler = sitk.ResampleImageFilter()
    resampler.SetInterpolator(sitk.sitkBSpline if min(array.shape) >= 4 else sitk.sitkLinear)
    resampler.SetSize(shape[::-1])
    resampler.SetOutputSpacing(step[::-1].tolist())
    resampler.SetOutputOrigin(first[::-1].tolist())
    resampler.SetDefaultPixelValue(fill)
    if num_threads is not None:
        resampler.SetNumberOfThreads(num_threads)
    return sitk.GetArrayFromImage(resampler.Execute(sitk.GetImageFromArray(np.ascontiguousarray(array))))


def _linear_along_first(
    array: NDArray[np.float32], size: int, step: float, first: float, fill: float
) -> NDArray[np.float32]:
    """Linear interpolation along the first axis at positions step * k + first; up to half a voxel beyond, the end."""
    positions = step * np.arange(size) + first
    inside = np.clip(positions, 0, len(array) - 1)
    below = np.minimum(np.floor(inside).astype(int), max(len(array) - 2, 0))
    above = np.minimum(below + 1, len(array) - 1)
    result = np.empty((size, *array.shape[1:]), dtype=np.float32)
    for k, (low, high, weight) in enumerate(zip(below, above, (inside - below).astype(np.float32), strict=True)):
        result[k] = array[low] * (1 - weight) + array[high] * weight
    result[(positions < -0.5 - _EPSILON) | (positions > len(array) - 0.5 + _EPSILON)] = fill
    return result


def _resample_box(
    mask: NDArray[Any], source: Grid, target: Grid, num_threads: int | None
) -> tuple[tuple[slice, slice, slice], NDArray[np.float32]]:
    """A mask's linear shares, on the part of `target` that its box reaches: where that part lies, and the shares."""
    corners = target.world_to_index(source.corners_mm())
    start = np.clip(np.floor(corners.min(axis=0)).astype(int), 0, target.shape)
    stop = np.clip(np.ceil(corners.max(axis=0)).astype(int) + 1, 0, target.shape)
    where = _slices(_shape(start), _shape(stop))
    if np.any(stop <= start):
        return where, np.zeros(tuple(np.maximum(stop - start, 0)), dtype=np.float32)
    part = target.box(_shape(start), _shape(stop))
    return where, _resample(mask.astype(np.float32), source, part, "linear", 0, num_threads)


def _boxes(labels: NDArray[Any]) -> dict[int, tuple[Shape, Shape]]:
    """Start and stop of the box of each label above 0, one voxel wider than the label where the image allows."""
    from scipy.ndimage import find_objects

    found = {}
    for label, box in enumerate(find_objects(labels), start=1):
        if box is not None:
            start = _shape(np.asarray([max(axis.start - 1, 0) for axis in box]))
            stop = _shape(np.asarray([min(a.stop + 1, size) for a, size in zip(box, labels.shape, strict=True)]))
            found[label] = (start, stop)
    return found


def _compact_labels(labels: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Label values, and the map with the k-th of them as k + 1, so that a list with one entry a label stays short."""
    if labels.min() < 0:
        raise ValueError(f"holds the negative label {labels.min()}; labels are 0 (background) and above")
    if labels.max() <= np.iinfo(np.int16).max:
        return np.arange(1, int(labels.max()) + 1), labels
    values = np.unique(labels)
    values = values[values > 0]
    return values, np.where(labels > 0, np.searchsorted(values, labels) + 1, 0)


def _anisotropy(grid: Grid) -> float:
    """Coarsest spacing over the finest; 1 where two axes are equally coarse, for then no single one stands apart."""
    fine, middle, coarse = sorted(grid.spacing_mm)
    return coarse / fine if coarse > middle * (1 + _EPSILON) else 1.0


def _as_type(array: NDArray[Any], dtype: np.dtype) -> NDArray[Any]:
    """Rounded and clipped where `dtype` is an integer."""
    if dtype.kind == "f":
        return array.astype(dtype, copy=False)
    limits = np.iinfo(dtype)
    return np.clip(np.rint(array), limits.min, limits.max).astype(dtype)


def _slices(start: Shape, stop: Shape) -> tuple[slice, slice, slice]:
    return slice(start[0], stop[0]), slice(start[1], stop[1]), slice(start[2], stop[2])


def _shape(sizes: NDArray[Any]) -> Shape:
    return int(sizes[0]), int(sizes[1]), int(sizes[2])


def _mm(grid: Grid) -> str:
    return " x ".join(f"{length:.3g}" for length in grid.spacing_mm) + " mm"
