"""The verbs of `medpipe` that a hospital uses between its archive and its planning system."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Part(StrEnum):
    every = "all"
    train = "train"
    test = "test"


class Holes(StrEnum):
    keyhole = "keyhole"
    inner = "inner"


class RoiNames(StrEnum):
    tg263 = "tg263"
    structure = "structure"


def predict(
    checkpoint: Annotated[Path, typer.Argument(help="A trained segmentation: the folder of its stage, or of weights.")],
    source: Annotated[
        str,
        typer.Argument(metavar="INPUT", help="A folder of DICOM files, a NIfTI (or a folder of them), or a manifest."),
    ],
    output: Annotated[
        list[str] | None,
        typer.Option(
            "--output",
            "-O",
            help="rtstruct, seg, nifti, report (PDF in DICOM); may be repeated, or separated "
            "by commas. Default: nifti.",
        ),
    ] = None,
    to: Annotated[Path, typer.Option(file_okay=False, help="Folder to write to, one folder a case.")] = Path(
        "predicted"
    ),
    series: Annotated[
        str | None, typer.Option(help="UID of the planning CT, where a folder could mean several.")
    ] = None,
    data_root: Annotated[Path | None, typer.Option(help="Of a manifest's cases.")] = None,
    part: Annotated[Part | None, typer.Option(help="Of a manifest. Default: all.")] = None,
    holes: Annotated[
        Holes, typer.Option(help="In an RTSTRUCT: joined by keyholes, or inner contours.")
    ] = Holes.keyhole,
    roi_names: Annotated[
        RoiNames, typer.Option(help="In an RTSTRUCT: TG-263, or the structure's own.")
    ] = RoiNames.tg263,
    roi_type: Annotated[
        list[str] | None,
        typer.Option(metavar="STRUCTURE=TYPE", help="RT ROI interpreted type, such as rectum=AVOIDANCE."),
    ] = None,
    uid_root: Annotated[str, typer.Option(help="Under which new UIDs are made. Default: pydicom's.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Replace cases in the output folder.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as one JSON document.")] = False,
) -> None:
    """Segment CTs: DICOM in, RTSTRUCT or SEG out, each object read back and compared before it is handed over."""
    from medpipe.engine.predicting import predict_command
    from medpipe.engine.prediction_outputs import OutputOptions

    types = [pair.partition("=") for pair in roi_type or []]
    options = OutputOptions(
        kinds=tuple(listed(output) or ["nifti"]), holes=holes.value, roi_names=roi_names.value,
        roi_types=tuple((name, kind) for name, _, kind in types), uid_root=uid_root,
    )  # fmt: skip
    raise typer.Exit(
        predict_command(
            checkpoint, source, options, to=to, series_uid=series, data_root=data_root,
            part=None if part is None else part.value, force=force, as_json=as_json,
        )
    )  # fmt: skip


def listed(values: list[str] | None) -> list[str]:
    """Repeated and comma-separated values of an option as one list."""
    return [part.strip() for value in values or [] for part in value.split(",") if part.strip()]


def deidentify(
    source: Annotated[Path, typer.Argument(metavar="INPUT", exists=True, help="A folder of DICOM files, or one file.")],
    to: Annotated[Path, typer.Argument(metavar="OUTPUT", file_okay=False, help="New or empty folder to write to.")],
    key: Annotated[
        Path, typer.Option(dir_okay=False, help="Secret key; made where it is missing. The same key, the same UIDs.")
    ],
    retain_dates: Annotated[
        bool, typer.Option("--retain-dates", help="Shift all dates of a patient alike, instead of removing them.")
    ] = False,
    retain_characteristics: Annotated[
        bool, typer.Option("--retain-characteristics", help="Keep age, sex, size, weight and the like.")
    ] = False,
    clean_descriptors: Annotated[
        bool, typer.Option("--clean-descriptors", help="Keep known words of descriptions and ROI names.")
    ] = False,
    words: Annotated[Path | None, typer.Option(dir_okay=False, help="More words for --clean-descriptors.")] = None,
    keep_private: Annotated[
        list[str] | None,
        typer.Option(metavar="GROUP,CREATOR,ELEMENT", help="Private element to keep; may be repeated."),
    ] = None,
    mask: Annotated[
        list[str] | None,
        typer.Option(metavar="MODALITY:TOP,LEFT,BOTTOM,RIGHT", help="Pixels to blank; may be repeated."),
    ] = None,
    keep_regions: Annotated[
        bool, typer.Option("--keep-regions", help="Of ultrasound, blank all outside the regions that the header names.")
    ] = False,
    uid_root: Annotated[str, typer.Option(help="Under which new UIDs are made.")] = "2.25",
    mapping: Annotated[
        Path | None, typer.Option(dir_okay=False, help="CSV of pseudonym and patient ID, to keep on the trusted side.")
    ] = None,
    skip_refused: Annotated[
        bool, typer.Option("--skip-refused", help="Leave out refused files without an error; they are counted.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as one JSON document.")] = False,
) -> None:
    """Remove identities from DICOM files by the Basic Profile of PS3.15, with its options; report what was changed."""
    from medpipe.engine.deidentifying import DeidentifyRequest, deidentify_command

    request = DeidentifyRequest(
        key=key, retain_dates=retain_dates, retain_characteristics=retain_characteristics,
        clean_descriptors=clean_descriptors, words=words, keep_private=tuple(keep_private or ()),
        masks=tuple(mask or ()), keep_regions=keep_regions, uid_root=uid_root, mapping=mapping,
        skip_refused=skip_refused,
    )  # fmt: skip
    raise typer.Exit(deidentify_command(source, to, request, as_json=as_json))
