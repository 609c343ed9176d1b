"""The training of a local transformers folder on a set's questions, as the stage vqa_training runs it."""

import json
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from medpipe.datasets.questions import AnswerForms, Question
from medpipe.geometry.faults import DataFault
from medpipe.language.options import GenerationConfig, TransformersBackbone
from medpipe.stages.stage import StageRun

if TYPE_CHECKING:
    from medpipe.datasets.questions import LoadedQuestions
    from medpipe.language.transformers_model import LocalModel
    from medpipe.stages.vqa_training import VqaTraining

BASE_FILE = "base.json"


def tune(
    stage: "VqaTraining",
    backbone: TransformersBackbone,
    run: StageRun,
    loaded: "LoadedQuestions",
    training: Sequence[Question],
    asked: Sequence[Question],
) -> dict[str, Any]:
    """Train, going on where it was stopped, and leave what was learned; the facts of the training."""
    from medpipe.language.transformers_model import LocalModel
    from medpipe.language.tuning import load_to_tune, save_tuned
    from medpipe.stages.training import seeded, train
    from medpipe.tasks.answer_tuning import AnswerTuning

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # its threads do not survive the fork of a loader
    identity = same_base(run, backbone)
    with seeded(run.seed):
        model, processor = load_to_tune(backbone, reduced=stage.training.precision == "bf16-mixed")
    learning = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    run.output.say(f"{learning:,} of {sum(parameter.numel() for parameter in model.parameters()):,} weights learn")
    longest = max(len(question.reference) for question in asked)
    answerer = LocalModel(
        model, processor, GenerationConfig(max_new_tokens=longest + 8), system=stage.prompt.system,
        image_first=backbone.image_first, batch_size=backbone.micro_batch_size or 8,
    )  # fmt: skip
    task = AnswerTuning(model)
    facts = train(
        run, task, samples_of(stage, backbone, processor, model, loaded, training, run.seed),
        stage.training, run.folder, label="training",
        validate=lambda step: {"validation_accuracy": accuracy(answerer, stage, loaded, asked)},
    )  # fmt: skip
    task.release()
    told = {"training": facts, "base_identity": identity, "prompt": stage.prompt.model_dump(mode="json")}
    save_tuned(run.folder, model, processor, backbone, told)
    for path in run.folder.glob("*.ckpt"):
        path.unlink()
    return facts


def same_base(run: StageRun, backbone: TransformersBackbone) -> str:
    """The identity of the base folder. Raises DataFault: an earlier part of this training began on another one."""
    from medpipe.language.tuning import folder_identity

    folder = backbone.folder.expanduser()
    if not (folder / "config.json").is_file():
        raise DataFault(folder, "no config.json: expected a folder of transformers weights")
    identity = folder_identity(folder)
    path = run.path(BASE_FILE)
    if path.is_file() and (before := json.loads(path.read_text(encoding="utf-8"))["base_identity"]) != identity:
        raise DataFault(
            folder,
            f"not the folder that this training began on (its files hash to {identity[:12]}, expected {before[:12]}); "
            f"put that one back, or remove {run.folder} to start anew",
        )
    run.write_json(BASE_FILE, {"base_identity": identity})
    return identity


def samples_of(
    stage: "VqaTraining", backbone: TransformersBackbone, processor: Any, model: Any, loaded: "LoadedQuestions",
    training: Sequence[Question], seed: int,
) -> Any:  # fmt: skip
    """The questions as they are asked, with the answers to learn."""
    from medpipe.language.tuning_samples import TaughtQuestion, TuningSamples

    ends = model.generation_config.eos_token_id
    taught = [
        TaughtQuestion(
            question.question_id,
            stage.text_of(question),
            question.reference,
            tuple(map(loaded.image_path, question.images)),
        )
        for question in training
    ]
    return TuningSamples(
        taught, processor, seed=seed, system=stage.prompt.system, image_first=backbone.image_first,
        most_pixels=backbone.most_pixels, part_size=backbone.micro_batch_size,
        ends=ends if isinstance(ends, list) else [ends],
    )  # fmt: skip


def accuracy(
    answerer: "LocalModel", stage: "VqaTraining", loaded: "LoadedQuestions", asked: Sequence[Question]
) -> float:
    """Share of questions whose greedy answer is right by medpipe's rules."""
    from medpipe.datasets.question_images import read_image
    from medpipe.language.model import Asked
    from medpipe.metrics.answers import judge

    assert isinstance(stage.backbone, TransformersBackbone)
    forms = AnswerForms(loaded.vocabulary, loaded.question_set.box.form)
    right, size = 0, answerer.batch_size
    for start in range(0, len(asked), size):
        part = asked[start : start + size]
        replies = answerer.answer_all(
            [
                Asked(
                    question.question_id,
                    stage.text_of(question),
                    tuple(
                        read_image(loaded.image_path(image), stage.backbone.most_pixels) for image in question.images
                    ),
                )
                for question in part
            ]
        )
        right += sum(
            judge(reply.text, forms(question), question.reference, reply.finish_reason).right
            for question, reply in zip(part, replies, strict=True)
        )
    return right / len(asked)
