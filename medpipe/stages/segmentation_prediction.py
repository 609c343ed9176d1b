"""Apply trained networks to cases, each on the grid of its own image; the folds of a model are averaged.

takes   the networks of one or more stages of kind segmentation_training
leaves  predictions.json, and below predictions/<model>/ one label map a case, or a folder of masks where structures
        overlap; an RTSTRUCT beside it where the case is a DICOM series and `write_rtstruct` is set
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, final

from pydantic import Field

from medpipe.config.base import StageRef
from medpipe.datasets.augmentation import check_mirroring
from medpipe.datasets.cases import Case, CasesConfig
from medpipe.stages.predictions import (
    MEMBERS_FILE,
    PredictedModel,
    Predictions,
    case_path,
    write_prediction,
    write_predictions,
)
from medpipe.stages.stage import Stage, StageRun, StopRequested
from medpipe.tasks.options import PredictionConfig

if TYPE_CHECKING:
    from medpipe.datasets.preprocessing import Preprocessing
    from medpipe.geometry.volume import LabelMap, MaskStack
    from medpipe.tasks.segmentation_network import SegmentationNetwork


@final
class SegmentationPrediction(Stage):
    """Gaussian sliding window, in memory that does not grow with structures times voxels."""

    version: ClassVar[int] = 1
    work: ClassVar = "prediction"
    uses_processes: ClassVar[bool] = True
    takes: ClassVar[dict[str, tuple[str, ...]]] = {"models": ("segmentation_training",)}

    stage: Literal["segmentation_prediction"]
    models: tuple[StageRef, ...] = Field(min_length=1)
    cases: CasesConfig
    prediction: PredictionConfig = PredictionConfig()
    write_rtstruct: bool = Field(False, description="for cases that are DICOM series, with its references")

    def parts(self, base: Path) -> int | None:
        return None

    def run(self, run: StageRun) -> None:
        from medpipe.datasets.cases import list_cases

        cases = list(run.mine(list_cases(self.cases, run.data, run.base)))
        models = [model for ref in self.models for model in models_of(ref, run.folder_of(ref))]
        own = run.processes.share(cases)
        with run.output.progress("predicting", len(models) * len(own)) as progress:
            is_stopped = False
            try:
                for model, folders in models:
                    self.predict_model(run, model, folders, own, progress)
            except StopRequested:
                is_stopped = True
        if run.processes.any(is_stopped):
            raise StopRequested(run.name)
        if run.processes.is_first and run.part is None:
            write_predictions(
                run.folder, Predictions(tuple(model for model, _ in models), self.cases.model_dump_json())
            )

    def predict_model(
        self, run: StageRun, model: PredictedModel, folders: list[Path], cases: list[Case], progress: Any
    ) -> None:
        """The cases of this process by one model; those that are there from before a stop are kept."""
        todo = [case for case in cases if not case_path(run.folder, model, case.case_id).exists()]
        if len(todo) < len(cases):
            progress.advance(len(cases) - len(todo), note=model.title)
        if not todo:
            return
        ensemble = Ensemble.load(folders)
        check_mirroring(ensemble.structures, self.prediction.mirror_axes)
        for case in todo:
            run.stop_if_asked()
            prediction = self.predict_one(run, ensemble, case)
            write_prediction(case_path(run.folder, model, case.case_id), prediction)
            if self.write_rtstruct:
                self.write_structure_set(run, model, case, prediction)
            progress.advance(note=model.title)

    def predict_one(self, run: StageRun, ensemble: "Ensemble", case: Case) -> "LabelMap | MaskStack":
        """One case on its own grid."""
        from medpipe.datasets.reading import read_image
        from medpipe.tasks.prediction import predict_case
        from medpipe.tasks.sliding_window import PredictionStopped

        try:
            return predict_case(
                ensemble.networks,
                read_image(case, []),
                ensemble.preprocessing,
                patch_size=ensemble.patch_size,
                output=ensemble.output,
                structures=ensemble.structures,
                config=self.prediction,
                device=ensemble.device,
                should_stop=run.should_stop,
            )
        except PredictionStopped as stopped:
            raise StopRequested(run.name) from stopped

    def write_structure_set(
        self, run: StageRun, model: PredictedModel, case: Case, prediction: "LabelMap | MaskStack"
    ) -> None:
        """An RTSTRUCT that refers to the case's own series."""
        from medpipe.dicom.series import read_series
        from medpipe.dicom.write_rtstruct import write_rtstruct

        if not case.image.is_dir():
            run.output.warn(f"{case.case_id}: not a DICOM series, so no RTSTRUCT is written")
            return
        series = read_series(case.image, series_uid=case.series_uid)
        path = run.path(f"{model.folder}/{case.case_id}.dcm")
        write_rtstruct(path, as_masks(prediction, model.structures), series)


def as_masks(prediction: "LabelMap | MaskStack", structures: tuple[str, ...]) -> "MaskStack":
    """One mask a structure, whichever form the prediction has."""
    import numpy as np

    from medpipe.geometry.volume import LabelMap, MaskStack

    if not isinstance(prediction, LabelMap):
        return prediction
    masks = np.stack([prediction.array == index + 1 for index in range(len(structures))])
    return MaskStack(masks, prediction.affine, structures)


@dataclass(frozen=True)
class Ensemble:
    """The networks of one model, on the GPU where there is one, and what they have in common."""

    networks: "list[SegmentationNetwork]"
    preprocessing: "Preprocessing"
    patch_size: tuple[int, int, int]
    output: Literal["softmax", "sigmoid"]
    structures: tuple[str, ...]
    device: str

    @classmethod
    def load(cls, folders: list[Path]) -> "Ensemble":
        """The networks of these folders of weights; the first one's record stands for all."""
        import torch

        from medpipe.datasets.preprocessing import Preprocessing
        from medpipe.tasks.weights import load_model

        loaded = [load_model(folder) for folder in folders]
        device = "cuda" if torch.cuda.is_available() else "cpu"
        record = loaded[0][1]
        assert record.output is not None, "load_model refuses other kinds"
        return cls(
            networks=[network.to(device) for network, _ in loaded],
            preprocessing=Preprocessing.model_validate(record.preprocessing, strict=False),
            patch_size=record.patch_size,
            output=record.output,
            structures=record.structures,
            device=device,
        )


def models_of(ref: StageRef, folder: Path) -> list[tuple[PredictedModel, list[Path]]]:
    """The models of a training stage, one a share of the labelled cases, with the folders of their networks.

    A folder of weights alone (model.json) is one model of one network.
    """
    if not (folder / MEMBERS_FILE).is_file():
        return [_lone_model(ref, folder)]
    kept = json.loads((folder / MEMBERS_FILE).read_text(encoding="utf-8"))
    shares = sorted({member["share"] for member in kept["members"]}, reverse=True)
    models = []
    for share in shares:
        folders = [folder / member["folder"] for member in kept["members"] if member["share"] == share]
        name = ref.from_ if len(shares) == 1 else f"{ref.from_}_share_{round(100 * share):03d}"
        model = PredictedModel(
            title=kept["title"],
            stage=ref.from_,
            share=share,
            folder=f"predictions/{name}",
            output=kept["output"],
            structures=tuple(kept["structures"]),
            num_networks=len(folders),
        )
        models.append((model, folders))
    return models


def _lone_model(ref: StageRef, folder: Path) -> tuple[PredictedModel, list[Path]]:
    from medpipe.tasks.model_record import read_record

    record = read_record(folder)
    if record.output is None:
        raise ValueError(f"{folder}: holds a model of kind {record.kind!r}, one of kind 'segmentation' is expected")
    title = folder.resolve().name
    base = f"predictions/{ref.from_}"
    return PredictedModel(title, ref.from_, 1.0, base, record.output, record.structures, 1), [folder]
