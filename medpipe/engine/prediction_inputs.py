"""What `medpipe predict` was given, as cases: a DICOM folder, a NIfTI file, a folder of them, or a manifest."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from medpipe.config.errors import ConfigError, Problem
from medpipe.geometry.faults import DataFault

if TYPE_CHECKING:
    from medpipe.dicom.series import Series
    from medpipe.geometry.volume import Volume

NIFTI_ENDINGS = (".nii.gz", ".nii")


@dataclass(frozen=True)
class PredictionInput:
    """One CT: a NIfTI file, or the files of a DICOM series with the reason why it was chosen."""

    case_id: str
    source: Path
    files: tuple[Path, ...] = ()  # of the series; () for a NIfTI
    series_uid: str = ""
    why: str = ""
    notes: tuple[str, ...] = ()
    hounsfield: bool = True

    @property
    def is_dicom(self) -> bool:
        return bool(self.files)

    def read(self, notes: list[str]) -> "tuple[Volume, Series | None]":
        """The CT in HU, and its series. DataFault for all that is no sound CT."""
        from medpipe.dicom.series import read_series
        from medpipe.geometry.hounsfield import check_hounsfield
        from medpipe.geometry.nifti import read_volume

        series = None
        if self.is_dicom:
            series = read_series(list(self.files), series_uid=self.series_uid, notes=notes)
            volume = series.volume
        else:
            volume = read_volume(self.source, notes=notes)
        if self.hounsfield:
            check_hounsfield(self.source, volume, notes)
        return volume, series


def wrong(message: str) -> ConfigError:
    return ConfigError([Problem("medpipe predict", None, None, message)])


def prediction_inputs(
    source: str, *, series_uid: str | None, data_root: Path | None, part: str | None
) -> list[PredictionInput]:
    """The cases of INPUT; DataFault or DataFaults where they are wrong, ConfigError where INPUT is nothing known."""
    path = Path(source).expanduser()
    is_manifest = path.suffix in (".yaml", ".yml") or not path.exists()
    if not is_manifest and (data_root is not None or part is not None):
        raise wrong(f"--data-root and --part are of manifests; {path} is none")
    if is_manifest:
        if series_uid is not None:
            raise wrong("--series is of a DICOM folder; a manifest chooses by its own `series:`")
        return _of_manifest(source, data_root, part or "all")
    if path.is_file():
        if not path.name.endswith(NIFTI_ENDINGS):
            raise wrong(f"{path}: a folder of DICOM files, a NIfTI (.nii, .nii.gz) or a manifest is expected")
        return [PredictionInput(_stem(path), path)]
    return _of_folder(path, series_uid)


def _of_folder(folder: Path, series_uid: str | None) -> list[PredictionInput]:
    from medpipe.dicom.planning_ct import find_planning_ct

    volumes = sorted(path for path in folder.iterdir() if path.name.endswith(NIFTI_ENDINGS) and path.name[0] != ".")
    if volumes and series_uid is None:
        return [PredictionInput(_stem(path), path) for path in volumes]
    notes: list[str] = []
    found = find_planning_ct(folder, series_uid=series_uid, notes=notes)
    name = folder.resolve().name or "case"
    return [
        PredictionInput(
            name, folder, found.series.paths, found.series.series_uid, found.why, (*found.passed_over, *notes)
        )
    ]


def _of_manifest(ref: str, data_root: Path | None, part: str) -> list[PredictionInput]:
    from medpipe.datasets.cases import Case, CasesConfig, DataConfig, list_cases
    from medpipe.dicom.series import find_series
    from medpipe.engine.evaluation import known_manifest

    known_manifest(ref)  # refuses an unknown name, and lists the known ones
    if data_root is None:
        raise wrong(f"{ref} is a manifest: give --data-root, the folder below which its cases lie")

    def series_files(case: Case) -> tuple[Path, ...]:
        return next((one.paths for one in find_series(case.image) if one.series_uid == case.series_uid), ())

    chosen = CasesConfig(manifest=ref, part=part)  # type: ignore[arg-type]  # the command line knows the three
    inputs = []
    for case in list_cases(chosen, DataConfig(root=data_root), Path.cwd()):
        files = series_files(case) if case.image.is_dir() else ()
        if case.image.is_dir() and not files:
            raise DataFault(case.image, f"case {case.case_id}: holds no CT series {case.series_uid or ''}")
        why = f"chosen by the manifest {ref}" if files else ""
        inputs.append(
            PredictionInput(
                case.case_id, case.image, files, case.series_uid or "", why, hounsfield=case.manifest.hounsfield
            )
        )
    return inputs


def _stem(path: Path) -> str:
    return next(path.name[: -len(ending)] for ending in NIFTI_ENDINGS if path.name.endswith(ending))
