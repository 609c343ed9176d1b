"""What a NIfTI header says about the place of its voxels, by one documented rule."""

from typing import Any

import numpy as np

from medpipe.geometry.rigid import rigid_affine
from medpipe.geometry.volume import Affine, Grid, Shape, checked_affine, grid_differences


def affine_of(header: Any, shape: Shape, notes: list[str]) -> Affine:
    """The affine (i, j, k) to RAS mm: the sform where its code is above 0, else the qform where its code is, else
    refused.

    shape (I, J, K). Notes: sform and qform that disagree beyond the tolerances of `grid_differences`, voxel sizes that
    contradict the affine, axes projected to the nearest rotation. ValueError for a header that places nothing.
    """
    _check_unit(header, notes)
    affine, name = _chosen_affine(header)
    try:
        affine = checked_affine(affine)
    except ValueError as error:
        raise ValueError(f"its {name} is unusable: {error}") from error
    _note_disagreement(header, shape, affine, name, notes)
    return rigid_affine(affine, notes)


def _chosen_affine(header: Any) -> tuple[Affine, str]:
    if int(header["sform_code"]) > 0:
        return header.get_sform(), "sform"
    if int(header["qform_code"]) > 0:
        return header.get_qform(), "qform"
    raise ValueError(
        "neither sform nor qform is set (both codes are 0), so left and right are unknown; "
        "write the affine into the header, for instance by nibabel's image.set_sform(affine, code=1)"
    )


def _note_disagreement(header: Any, shape: Shape, affine: Affine, name: str, notes: list[str]) -> None:
    chosen = Grid(shape, affine)
    voxel_mm = np.asarray(header["pixdim"][1:4], dtype=np.float64)
    if name == "sform" and int(header["qform_code"]) > 0:
        try:
            differences = grid_differences(chosen, Grid(shape, header.get_qform()))
        except (ValueError, np.linalg.LinAlgError) as error:
            differences = [f"the qform is unusable ({error})"]
        # Axes are named (d, h, w) in these sentences; for a header they are i, j, k.
        words = "; ".join(differences).replace("(d, h, w)", "(i, j, k)").replace("(D, H, W)", "(I, J, K)")
        if differences:
            notes.append(f"sform and qform disagree, the sform is used: for the qform, {words}")
    elif np.abs(voxel_mm / np.asarray(chosen.spacing_mm) - 1).max() > 1e-3:
        printed = " x ".join(f"{size:.4g}" for size in voxel_mm)
        used = " x ".join(f"{size:.4g}" for size in chosen.spacing_mm)
        notes.append(f"pixdim says {printed} mm, the {name} {used} mm: the {name} is used")


def _check_unit(header: Any, notes: list[str]) -> None:
    """NIfTI stores the unit of length in the low three bits: 0 unknown, 1 metre, 2 mm, 3 micrometre."""
    code = int(header["xyzt_units"]) & 0x07
    if code in (1, 3):
        raise ValueError(f"its lengths are in {'metres' if code == 1 else 'micrometres'}, millimetres are expected")
    if code not in (0, 2):
        notes.append(f"unknown unit of length (code {code}), taken as millimetres")
