"""A written object against the masks it was made of, in patient coordinates, by the images it refers to.

Nothing of the writer's geometry is used again: places come from the image files' own ImagePositionPatient,
ImageOrientationPatient and PixelSpacing, as an importing system takes them. Mirrored, shifted or permuted axes of the
grid would show here, and so would a contour on the wrong slice.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medpipe.dicom.polygons import fill_polygons
from medpipe.dicom.reading import read_dataset
from medpipe.dicom.rtstruct import Roi, RtStruct, read_rtstruct
from medpipe.dicom.series import Series
from medpipe.dicom.slices import KEYWORDS, Slice, slice_of
from medpipe.dicom.structure_masks import StructureMasks
from medpipe.geometry.world import flip_points

_CLOSE_MM = 0.01  # decimal strings hold nine digits or more; a slice is never this thin


class WrittenOtherwise(RuntimeError):
    """A file that does not say what its masks say: it is removed, and nobody gets it."""


def check_rtstruct(path: Path, masks: StructureMasks, names: list[str], series: Series) -> RtStruct:
    """The file as read; WrittenOtherwise unless every region, filled on the images it names, is its structure's mask.

    `masks` lie on the grid of `series`, `names` are their regions' names.
    """
    images = images_of(series)
    check_grid(path, masks, series, images)
    rtstruct = read_rtstruct(path)
    if rtstruct.frame_of_reference_uids != (series.frame_of_reference_uid,):
        raise WrittenOtherwise(f"{path}: frames of reference {rtstruct.frame_of_reference_uids} after writing")
    for structure, name in zip(masks.structures, names, strict=True):
        found = _filled(path, rtstruct.roi(name), series, images, masks.grid.shape)
        check_same(path, structure, masks.mask(structure), found)
    return rtstruct


def images_of(series: Series) -> dict[str, Slice]:
    """SOP instance UID -> where that image lies, read from the files anew."""
    assert len(series.paths) == len(series.sop_uids), "a series that was read knows its files"
    found = [slice_of(read_dataset(path, with_pixels=False, keywords=KEYWORDS), path) for path in series.paths]
    return {one.sop_uid: one for one in found}


def check_grid(path: Path, masks: StructureMasks, series: Series, images: dict[str, Slice]) -> None:
    """The corners of every slice of the masks lie where the image of that slice has its corner pixels."""
    _, height, width = masks.grid.shape
    corners = np.array([(0, 0), (0, width - 1), (height - 1, 0), (height - 1, width - 1)])
    for d, uid in enumerate(series.sop_uids):
        index = np.column_stack([np.full(4, d), corners])
        off_mm = np.abs(flip_points(masks.grid.index_to_world(index)) - _pixel_places(images[uid], corners)).max()
        # A series may be 1 % uneven: its grid is the even one, and half a percent of a slice off at the most.
        if off_mm > max(_CLOSE_MM, 0.02 * masks.grid.spacing_mm[0]):
            raise WrittenOtherwise(f"{path}: slice {d} of the masks lies {off_mm:.3f} mm off its image {uid}")


def check_same(path: Path, structure: str, wanted: NDArray[np.bool_], found: NDArray[np.bool_]) -> None:
    """WrittenOtherwise, with the number of voxels, unless both masks are one."""
    differing = int(np.count_nonzero(wanted != found))
    if differing:
        raise WrittenOtherwise(f"{path}: {structure}: {differing} voxels differ after writing and reading")


def _pixel_places(image: Slice, pixels: NDArray[np.int64]) -> NDArray[np.float64]:
    """LPS mm (N, 3) of pixels (row, column), by the equation of PS3.3 C.7.6.2.1.1."""
    between_rows, between_columns = image.spacing_mm
    down = pixels[:, :1] * between_rows * image.column_direction
    along = pixels[:, 1:] * between_columns * image.row_direction
    return image.position + down + along


def _filled(
    path: Path, roi: Roi, series: Series, images: dict[str, Slice], shape: tuple[int, int, int]
) -> NDArray[np.bool_]:
    place = {uid: d for d, uid in enumerate(series.sop_uids)}
    polygons, planes = [], []
    for contour in roi.contours:
        if contour.image_uid not in images:
            raise WrittenOtherwise(f"{path}: {roi.name}: a contour names no image of the series")
        image = images[contour.image_uid]
        offsets = flip_points(contour.points_mm) - image.position
        normal = np.cross(image.row_direction, image.column_direction)
        off_mm = float(np.abs(offsets @ normal).max())
        if off_mm > max(_CLOSE_MM, 0.02 * series.volume.spacing_mm[0]):
            raise WrittenOtherwise(f"{path}: {roi.name}: a contour lies {off_mm:.3f} mm off the image that it names")
        rows = offsets @ image.column_direction / image.spacing_mm[0]
        columns = offsets @ image.row_direction / image.spacing_mm[1]
        polygons.append(np.column_stack([rows, columns]))
        planes.append(place[contour.image_uid])
    return fill_polygons(polygons, planes, shape)
