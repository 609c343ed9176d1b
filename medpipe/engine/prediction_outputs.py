"""The files of one predicted case, in a folder that gets its name when all of them are there and were read back."""

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medpipe.stages.predictions import PredictedModel, write_prediction

if TYPE_CHECKING:
    from medpipe.dicom.maker import Model
    from medpipe.dicom.series import Series
    from medpipe.dicom.structure_masks import StructureMasks
    from medpipe.geometry.volume import LabelMap, MaskStack, Volume

OUTPUTS = ("rtstruct", "seg", "nifti", "report")
OF_DICOM = ("rtstruct", "seg", "report")  # objects that refer to a series


@dataclass(frozen=True)
class OutputOptions:
    """What to write and how; all of it of DICOM but `kinds`."""

    kinds: tuple[str, ...]
    holes: str = "keyhole"
    roi_names: str = "tg263"
    roi_types: tuple[tuple[str, str], ...] = ()
    uid_root: str = ""
    description: str = "automatic segmentation"


@contextmanager
def case_folder(final: Path) -> Iterator[Path]:
    """A folder beside `final` that takes its name, and its place, if the block ends well; else nothing is left."""
    final.parent.mkdir(parents=True, exist_ok=True)
    partial = final.with_name(f".{final.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        shutil.rmtree(final, ignore_errors=True)
        os.replace(partial, final)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_outputs(
    folder: Path,
    volume: "Volume",
    prediction: "LabelMap | MaskStack",
    series: "Series | None",
    predicted: PredictedModel,
    model: "Model",
    options: OutputOptions,
    notes: list[str],
) -> dict[str, dict[str, Any]]:
    """Kind -> file and SHA-256 of each output that was asked for, all below `folder`."""
    from medpipe.dicom.structure_masks import StructureMasks
    from medpipe.geometry.volume import LabelMap

    if "nifti" in options.kinds:
        name = "segmentation.nii.gz" if isinstance(prediction, LabelMap) else "segmentation"
        write_prediction(folder / name, prediction)
    if series is not None:
        masks = StructureMasks(prediction, predicted.structures)
        _write_dicom(folder, masks, series, model, options, notes)
        if "report" in options.kinds:
            _write_report(folder, volume, prediction, series, predicted, model, options)
    return {kind: listed(folder / name) for kind, name in _names(folder).items() if kind in options.kinds}


def _names(folder: Path) -> dict[str, str]:
    nifti = "segmentation" if (folder / "segmentation").is_dir() else "segmentation.nii.gz"
    return {"rtstruct": "rtstruct.dcm", "seg": "seg.dcm", "nifti": nifti, "report": "report.dcm"}


def listed(path: Path) -> dict[str, Any]:
    """Name, SHA-256 (of a folder: of each file) and, of a DICOM object, its UID."""
    if path.is_dir():
        return {"file": path.name, "sha256": {file.name: sha256_of(file) for file in sorted(path.iterdir())}}
    entry: dict[str, Any] = {"file": path.name, "sha256": sha256_of(path)}
    if path.suffix == ".dcm":
        from medpipe.dicom.reading import read_dataset, text

        header = read_dataset(path, with_pixels=False, keywords=("SOPClassUID", "SOPInstanceUID"))
        entry["sop_instance_uid"] = text(header, "SOPInstanceUID")
    return entry


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_dicom(
    folder: Path, masks: "StructureMasks", series: "Series", model: "Model", options: OutputOptions, notes: list[str]
) -> None:
    from medpipe.datasets.structure_codes import segment_codes, tg263_names
    from medpipe.dicom.write_rtstruct import write_rtstruct
    from medpipe.dicom.write_seg import write_seg

    if "rtstruct" in options.kinds:
        names = tg263_names(masks.structures, notes) if options.roi_names == "tg263" else {}
        write_rtstruct(
            folder / "rtstruct.dcm", masks, series, roi_names=names, interpreted_types=dict(options.roi_types),
            description=options.description, holes=options.holes, model=model, uid_root=options.uid_root, notes=notes,  # type: ignore[arg-type]
        )  # fmt: skip
    if "seg" in options.kinds:
        codes = segment_codes(masks.structures, notes)
        write_seg(
            folder / "seg.dcm", masks, series, codes=codes, description=options.description, model=model,
            uid_root=options.uid_root, notes=notes,
        )  # fmt: skip


def _write_report(
    folder: Path, volume: "Volume", prediction: "LabelMap | MaskStack", series: "Series", predicted: PredictedModel,
    model: "Model", options: OutputOptions,
) -> None:  # fmt: skip
    from medpipe.dicom.write_pdf import write_pdf
    from medpipe.reporting.case_pdf import case_pdf

    facts = [
        ("patient", series.patient_id),
        ("study date", series.study.get("StudyDate", "")),
        ("CT series", series.series_uid),
        ("model", f"{model.name}, {predicted.num_networks} networks, medpipe {model.version}"),
        ("weights sha256", model.weights_sha256),
    ]
    pdf = case_pdf(volume, prediction, predicted.structures, facts)
    write_pdf(
        folder / "report.dcm", pdf, series, title="Automatic segmentation", model=model, uid_root=options.uid_root
    )
