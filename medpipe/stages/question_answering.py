"""Ask a vision-language model, or a baseline that never looks, every question of a set.

takes   questions of a set; optionally the model of a stage vqa_training
leaves  answers.jsonl (one line a question, in their order), questions.jsonl, answering.json
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, final

from pydantic import Field

from medpipe.datasets.perturbations import Perturbation
from medpipe.datasets.questions import Question, QuestionsConfig
from medpipe.datasets.vocabularies import Vocabulary
from medpipe.language.options import (
    AnsweringModel,
    BaselineModel,
    GenerationConfig,
    PromptConfig,
    ServerModel,
    TrainedModel,
    TransformersModel,
)
from medpipe.stages.stage import Stage, StageRun, StopRequested

if TYPE_CHECKING:
    from medpipe.datasets.questions import LoadedQuestions
    from medpipe.language.answering import Request
    from medpipe.language.model import VisionLanguageModel

QUESTIONS_FILE, FACTS_FILE = "questions.jsonl", "answering.json"


@final
class QuestionAnswering(Stage):
    """Answers of a model to every question, kept raw; a stopped or killed stage goes on with the next question."""

    work: ClassVar = "prediction"
    version: ClassVar[int] = 1
    takes: ClassVar[dict[str, tuple[str, ...]]] = {"model.training": ("vqa_training",)}

    stage: Literal["question_answering"]
    title: str = Field("", description="what the report calls the model; default: its own name")
    questions: QuestionsConfig
    model: AnsweringModel
    stand_in: BaselineModel | None = Field(None, description="answers instead where questions are generated (phantom)")
    prompt: PromptConfig = PromptConfig()
    generation: GenerationConfig = GenerationConfig()
    blind: bool = Field(False, description="the images are left out of the request: what the wording alone gives away")
    perturbation: Perturbation | None = None
    most_pixels: int | None = Field(2_000_000, ge=1, description="larger images are made smaller before they are sent")
    passes: int = Field(2, ge=1, description="how often questions that failed are asked")

    def run(self, run: StageRun) -> None:
        from medpipe.datasets.questions import load_questions, write_questions
        from medpipe.language.answering import Stopped, answer_requests

        loaded = load_questions(self.questions, run.data, run.base)
        for note in loaded.notes:
            run.output.say(note)
        asked = perturbed(loaded, self.perturbation)
        if len(asked.questions) < len(loaded.questions):
            left_out = len(loaded.questions) - len(asked.questions)
            run.output.say(
                f"{self.perturbation}: {left_out} questions without a known wrong answer or image are left out"
            )
        model_config = self._model_config(run)
        facts = {"model": model_facts(model_config), "generation": self.generation.model_dump(mode="json")}
        facts |= {"system": self.prompt.system, "blind": self.blind, "perturbation": self.perturbation}
        write_questions(run.path(QUESTIONS_FILE), asked)
        blind = self.blind or self.questions.images == "ignored" or isinstance(model_config, BaselineModel)
        requests = requests_of(
            asked.questions, self.prompt, asked.image_path, self.perturbation, asked.vocabulary, blind=blind,
            most_pixels=self.most_pixels,
        )  # fmt: skip
        model = self._build(model_config, run)
        try:
            with run.output.progress("answering", len(requests)) as progress:
                pace = Pace()

                def on_answer(count: int, failed: bool) -> None:
                    progress.advance(count, note=pace.note(count, failed))

                outcome = answer_requests(
                    requests,
                    model,
                    run.folder,
                    facts,
                    should_stop=run.should_stop,
                    on_answer=on_answer,
                    on_kept=progress.advance,
                    passes=self.passes,
                )
        except Stopped:
            raise StopRequested(run.name) from None
        finally:
            model.close()
        run.write_json(FACTS_FILE, self._facts(asked, model_config, facts, outcome.failed))
        if outcome.failed:
            run.output.warn(f"{outcome.failed} of {len(requests)} questions were never answered; they count as failed")

    def _model_config(self, run: StageRun) -> Any:
        if run.data.source == "phantom" and self.stand_in is not None:
            run.output.say(
                f"generated questions: answered by the stand-in {self.stand_in.name}, not by {self.model.name}"
            )
            return self.stand_in
        return self.model

    def _build(self, config: Any, run: StageRun) -> "VisionLanguageModel":
        if isinstance(config, ServerModel):
            from medpipe.language.server import Server

            return Server(config, self.generation, self.prompt.system, run.should_stop)
        if isinstance(config, TransformersModel):
            from medpipe.language.transformers_model import LocalModel

            return LocalModel.of_folder(config, self.generation, self.prompt.system)
        if isinstance(config, TrainedModel):
            from medpipe.language.trained import load_trained, trained_prompt

            folder = run.folder_of(config.training)
            taught = trained_prompt(folder)
            if taught not in (None, self.prompt.model_dump(mode="json")):
                run.output.warn("the prompt is not the one that the model was trained with")
            return load_trained(folder, self.generation, config, self.prompt.system)
        from medpipe.datasets.questions import load_questions
        from medpipe.language.baselines import Baseline
        from medpipe.language.prompts import make_prompt

        counted: list[tuple[str, str]] = []
        if config.fit_on is not None:
            counted = [
                (make_prompt(self.prompt, question.kind, question.text, question.options), question.reference)
                for question in load_questions(config.fit_on, run.data, run.base).questions
            ]
        return Baseline(config, counted)

    def _facts(self, asked: "LoadedQuestions", config: Any, facts: dict[str, Any], failed: int) -> dict[str, Any]:
        """What scoring and the report need beside the two files."""
        title = self.title or default_title(config)
        return {
            "title": f"{title}, blind" if self.blind and not self.title else title,
            "question_set": asked.question_set.question_set,
            "image_folder": str(asked.image_folder),
            "box": asked.question_set.box.model_dump(),
            "vocabulary": asked.vocabulary.model_dump(mode="json"),
            "questions": len(asked.questions),
            "failed": failed,
            **facts,
        }


@final
class Pace:
    """How fast answers come, and how many failed so far, for the line of progress."""

    def __init__(self) -> None:
        self.began, self.count, self.failed = time.monotonic(), 0, 0

    def note(self, count: int, failed: bool) -> str:
        """Count further answers; the rate since the start, and the failures if there are any."""
        self.count, self.failed = self.count + count, self.failed + failed
        rate = self.count / max(1e-6, time.monotonic() - self.began)
        return f"{rate:.1f} answers/s" + (f", {self.failed} failed so far" if self.failed else "")


def perturbed(loaded: "LoadedQuestions", kind: Perturbation | None) -> "LoadedQuestions":
    """The questions as they are asked; those that the perturbation cannot be made of are left out."""
    from dataclasses import replace

    from medpipe.datasets.perturbations import perturb

    if kind is None:
        return loaded
    changed = [perturb(question, kind, loaded.vocabulary) for question in loaded.questions]
    return replace(loaded, questions=tuple(question for question in changed if question is not None))


def requests_of(
    questions: Sequence[Question],
    prompt: PromptConfig,
    image_path: Callable[[str], Path],
    kind: Perturbation | None,
    vocabulary: Vocabulary | None,
    *,
    blind: bool,
    most_pixels: int | None = None,
) -> "list[Request]":
    """Questions on their way to a model: prompt and images, and nothing of the reference."""
    from medpipe.datasets.perturbations import image_change
    from medpipe.language.answering import Request
    from medpipe.language.prompts import make_prompt

    return [
        Request(
            question_id=question.question_id,
            prompt=make_prompt(prompt, question.kind, question.text, question.options),
            images=() if blind else tuple(image_path(image) for image in question.images),
            names=() if blind else question.images,
            change=None if kind is None or vocabulary is None else image_change(question, kind, vocabulary),
            most_pixels=most_pixels,
        )
        for question in questions
    ]


def model_facts(config: Any) -> dict[str, Any]:
    """The values of a model that its answers depend on."""
    values = config.model_dump(mode="json")
    fields = type(config).model_fields
    return {
        name: value
        for name, value in values.items()
        if not (isinstance(extra := fields[name].json_schema_extra, dict) and extra.get("execution"))
    }


def default_title(config: Any) -> str:
    """What a model is called where the stage has no title."""
    if isinstance(config, ServerModel):
        return config.model
    if isinstance(config, TransformersModel):
        return config.folder.name
    return "trained model" if isinstance(config, TrainedModel) else config.name.replace("_", " ")
