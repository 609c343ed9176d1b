"""Does a structure set belong to a CT series? By frame of reference, series and images, never by patient or by luck."""

from collections.abc import Mapping
from typing import Literal

import numpy as np

from medpipe.dicom.planes import roi_mask
from medpipe.dicom.rtstruct import Roi, RtStruct
from medpipe.dicom.series import Series
from medpipe.geometry.faults import DataFault
from medpipe.geometry.volume import MaskStack


def check_linked(rtstruct: RtStruct, series: Series, *, notes: list[str] | None = None) -> None:
    """DataFault, with the UIDs, unless frame of reference and series of both agree.

    Where one of the two is missing on either side the other decides, with a note; where both are, it is refused.
    """
    frames, frame = rtstruct.frame_of_reference_uids, series.frame_of_reference_uid
    if frames and frame and frame not in frames:
        raise DataFault(
            rtstruct.path,
            f"its frame of reference is {', '.join(frames)}, that of the CT in {series.folder} is {frame}",
        )
    if rtstruct.series_uids and series.series_uid not in rtstruct.series_uids:
        raise DataFault(
            rtstruct.path, f"it refers to the series {', '.join(rtstruct.series_uids)}, "
            f"the CT in {series.folder} is the series {series.series_uid}",
        )  # fmt: skip
    has_frame = bool(frames and frame)
    if not has_frame and not rtstruct.series_uids:
        raise DataFault(
            rtstruct.path, f"nothing links it to a CT: frame of reference {', '.join(frames) or 'none'} (CT: "
            f"{frame or 'none'}), and no series is named (CT: {series.series_uid})",
        )  # fmt: skip
    if notes is not None and not (has_frame and rtstruct.series_uids):
        named = "frame of reference" if has_frame else "series"
        notes.append(f"{rtstruct.path.name}: linked to the CT by its {named} alone")


def check_roi_linked(roi: Roi, series: Series, *, notes: list[str] | None = None) -> None:
    """DataFault unless the region lies in the series' frame of reference and each contour on the slice it refers to.

    Contours that refer to images which the series does not hold (it was cut or stored anew) are noted: their position
    alone places them, and `roi_mask` refuses those beyond the image.
    """
    frame = series.frame_of_reference_uid
    if roi.frame_of_reference_uid and frame and roi.frame_of_reference_uid != frame:
        raise DataFault(
            roi.path, f"region {roi.name!r} lies in frame of reference {roi.frame_of_reference_uid}, the CT in {frame}"
        )
    place = {uid: d for d, uid in enumerate(series.sop_uids)}
    named = [contour for contour in roi.contours if contour.image_uid in place]
    unknown = [contour.image_uid for contour in roi.contours if contour.image_uid and contour.image_uid not in place]
    if unknown and notes is not None:
        notes.append(
            f"{roi.path.name}: region {roi.name!r}: {len(unknown)} of {len(roi.contours)} contours refer to images "
            f"that the series does not hold (such as {unknown[0]}): placed by their position"
        )
    for contour in named:
        d = float(series.volume.grid.world_to_index(contour.points_mm)[:, 0].mean())
        if abs(d - place[contour.image_uid]) > 1:
            off_mm = abs(d - place[contour.image_uid]) * series.volume.spacing_mm[0]
            raise DataFault(
                roi.path, f"region {roi.name!r}: a contour lies {off_mm:.2f} mm off the image it refers to, "
                f"{contour.image_uid}",
            )  # fmt: skip


def roi_masks(
    rtstruct: RtStruct,
    series: Series,
    names: Mapping[str, str],
    *,
    outside: Literal["refuse", "clip"] = "refuse",
    gaps: Literal["refuse", "keep"] = "refuse",
    notes: list[str] | None = None,
) -> MaskStack:
    """Masks of the regions `names` (structure -> ROI name) on the grid of the series, links checked first."""
    check_linked(rtstruct, series, notes=notes)
    grid = series.volume.grid
    masks = np.zeros((len(names), *grid.shape), dtype=bool)
    for index, name in enumerate(names.values()):
        roi = rtstruct.roi(name)
        check_roi_linked(roi, series, notes=notes)
        masks[index] = roi_mask(roi, grid, outside=outside, gaps=gaps, notes=notes)
    return MaskStack(masks, grid.affine, tuple(names))
