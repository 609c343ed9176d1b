"""Train the small vision-language model on a set's questions, or a local transformers folder further.

takes   questions of a training part; a share of its images is held out to look at the accuracy
leaves  of the small model: weights.safetensors, model.json, tokenizer.json, metrics.csv
        of a folder: adapter/ (LoRA) or model/ (all weights), model.json, metrics.csv
"""

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, final

from pydantic import Field, model_validator

from medpipe.backbones.vision_language_options import VisionLanguageOptions
from medpipe.config.base import Config
from medpipe.datasets.questions import Question, QuestionsConfig
from medpipe.language.options import PromptConfig, TransformersBackbone
from medpipe.stages.stage import Stage, StageRun
from medpipe.tasks.options import TrainingConfig
from medpipe.tasks.processes import ALONE, Processes

if TYPE_CHECKING:
    from medpipe.backbones.word_tokenizer import WordTokenizer
    from medpipe.datasets.questions import LoadedQuestions

QUESTIONS_AT_ONCE = 512  # of a validation


class QuestionSampling(Config):
    """How questions and images are drawn and changed in training."""

    questions_per_image: int = Field(
        default=6, ge=1, description="of an image at once: it is encoded once for all of them"
    )
    mirror: bool = Field(default=False, description="left for right: never where answers name a side")
    shift_pixels: int = Field(default=4, ge=0, description="images are moved by up to so many pixels, edges repeated")


@final
class VqaTraining(Stage):
    """Next-token training on the answers' tokens; resumed exactly where it was stopped."""

    work: ClassVar = "training"
    version: ClassVar[int] = 2  # keys and values of an image once for all of its texts; another optimiser call
    uses_processes: ClassVar[bool] = True

    stage: Literal["vqa_training"]
    questions: QuestionsConfig
    backbone: Annotated[VisionLanguageOptions | TransformersBackbone, Field(discriminator="name")] = (
        VisionLanguageOptions()
    )
    prompt: PromptConfig = PromptConfig()
    sampling: QuestionSampling | None = None  # of the small model
    training: TrainingConfig
    validation_share: float = Field(0.05, gt=0, lt=1, description="of the images, held out with all their questions")
    validation_questions: int = Field(500, ge=1, description="at most so many of these are asked in a validation")

    @model_validator(mode="after")
    def _fits_a_folder(self) -> "VqaTraining":
        if isinstance(self.backbone, TransformersBackbone):
            if self.sampling is not None:
                raise ValueError("'sampling' is of the small model alone; set it to null for a transformers folder")
            if self.training.precision == "16-mixed":
                raise ValueError("'precision' must be 32 or bf16-mixed for a transformers folder, got 16-mixed")
        return self

    def run(self, run: StageRun) -> None:
        from medpipe.datasets.questions import load_questions

        loaded = load_questions(self.questions, run.data, run.base)
        training, held_out = split_by_cluster(loaded.questions, self.validation_share, run.seed)
        asked = drawn(held_out, self.validation_questions, run.seed)
        run.output.say(
            f"{len(training)} questions to train on; of {len(held_out)} of other images {len(asked)} are asked to look"
        )
        if isinstance(self.backbone, TransformersBackbone):
            if run.processes.size > 1:
                raise ValueError(f"a transformers folder is tuned by one process, got {run.processes.size}")
            from medpipe.stages.vqa_tuning import tune

            facts = tune(self, self.backbone, run, loaded, training, asked)
        else:
            facts = self._train_small(self.backbone, run, loaded, training, asked)
        if facts["best_score"] is not None:
            run.output.say(f"accuracy on held-out images: {facts['best_score']:.3f}")

    def _train_small(
        self,
        backbone: VisionLanguageOptions,
        run: StageRun,
        loaded: "LoadedQuestions",
        training: Sequence[Question],
        asked: Sequence[Question],
    ) -> dict[str, Any]:
        from medpipe.backbones.vision_language import VisionLanguageNetwork
        from medpipe.backbones.vision_language_files import save_vision_language
        from medpipe.backbones.word_tokenizer import WordTokenizer
        from medpipe.stages.training import seeded, train
        from medpipe.tasks.checkpoints import CHECKPOINT_FILE
        from medpipe.tasks.visual_questions import VisualQuestions

        tokenizer = WordTokenizer.learned(
            text for question in training for text in (self.text_of(question), question.reference)
        )
        with seeded(run.seed):
            network = VisionLanguageNetwork(backbone, vocabulary_size=len(tokenizer))
        task = VisualQuestions(network)
        facts = train(
            run, task, self.samples(backbone, training, loaded, tokenizer, run.seed), self.training, run.folder,
            label="training",
            validate=lambda step: {
                "validation_accuracy": self.accuracy(network, tokenizer, asked, loaded, run.processes)
            },
        )  # fmt: skip
        if not run.processes.is_first:
            return facts
        told = {"step": facts["steps"], "training": facts, "prompt": self.prompt.model_dump(mode="json")}
        save_vision_language(run.folder, network, tokenizer, told)
        (run.folder / CHECKPOINT_FILE).unlink(missing_ok=True)
        return facts

    def text_of(self, question: Question) -> str:
        """The prompt of a question."""
        from medpipe.language.prompts import make_prompt

        return make_prompt(self.prompt, question.kind, question.text, question.options)

    def samples(
        self, backbone: VisionLanguageOptions, questions: Sequence[Question], loaded: "LoadedQuestions",
        tokenizer: "WordTokenizer", seed: int,
    ) -> Any:  # fmt: skip
        """Questions by image, as tokens. Raises ValueError: one that is longer than the network's `max_tokens`."""
        from medpipe.backbones.word_tokenizer import ANSWER, END
        from medpipe.datasets.visual_questions import VisualQuestionSamples

        sampling = self.sampling or QuestionSampling()
        texts: dict[str, list[tuple[list[int], list[int]]]] = {}
        for question in questions:
            prompt = [*tokenizer.encode(self.text_of(question)), ANSWER]
            answer = [*tokenizer.encode(question.reference), END]
            if len(prompt) + len(answer) > backbone.max_tokens:
                raise ValueError(
                    f"question {question.question_id} takes {len(prompt) + len(answer)} tokens with its answer, "
                    f"more than backbone.max_tokens ({backbone.max_tokens}); raise that"
                )
            if question.images:
                texts.setdefault(question.images[0], []).append((prompt, answer))
        return VisualQuestionSamples(
            [loaded.image_path(image) for image in texts], list(texts.values()), side=backbone.image_size,
            length=backbone.max_tokens, per_image=sampling.questions_per_image, seed=seed,
            mirror=sampling.mirror, shift=sampling.shift_pixels,
        )  # fmt: skip

    def accuracy(
        self,
        network: Any,
        tokenizer: "WordTokenizer",
        questions: Sequence[Question],
        loaded: "LoadedQuestions",
        processes: Processes = ALONE,
    ) -> float:
        """Share of held-out questions whose greedy answer is the reference, word for word; processes share them."""
        import numpy as np
        import torch

        from medpipe.backbones.word_tokenizer import ANSWER
        from medpipe.datasets.question_images import read_image
        from medpipe.datasets.visual_questions import to_side

        side, right = network.options.image_size, 0
        device = next(network.parameters()).device
        # Whole blocks: how the questions lie in batches does not depend on the processes.
        for start in processes.share(range(0, len(questions), QUESTIONS_AT_ONCE)):
            part = questions[start : start + QUESTIONS_AT_ONCE]
            names = list(dict.fromkeys(question.images[0] for question in part))
            images = np.stack([to_side(read_image(loaded.image_path(name), 4 * side * side), side) for name in names])
            prompts = [[*tokenizer.encode(self.text_of(question)), ANSWER] for question in part]
            image_of = torch.tensor([names.index(question.images[0]) for question in part])
            answers = network.answer(torch.from_numpy(images).to(device), prompts, image_of, max_new_tokens=16)
            right += sum(
                tokenizer.decode(answer) == tokenizer.decode(tokenizer.encode(question.reference))
                for question, answer in zip(part, answers, strict=True)
            )
        return processes.sum([right])[0] / len(questions)


def split_by_cluster(questions: Sequence[Question], share: float, seed: int) -> tuple[list[Question], list[Question]]:
    """Training and held-out questions; no cluster is in both. ValueError where there are fewer than two clusters."""
    with_image = [question for question in questions if question.images]
    clusters = sorted({question.cluster for question in with_image}, key=lambda name: _draw(seed, name))
    if len(clusters) < 2:
        raise ValueError(f"{len(clusters)} clusters of questions with images; training needs at least two")
    held_out = set(clusters[: max(1, round(share * len(clusters)))])
    training = [question for question in with_image if question.cluster not in held_out]
    return training, [question for question in with_image if question.cluster in held_out]


def drawn(questions: Sequence[Question], most: int, seed: int) -> list[Question]:
    """At most so many of the questions, by a hash of their ids; in their order."""
    kept = {question.question_id for question in sorted(questions, key=lambda one: _draw(seed, one.question_id))[:most]}
    return [question for question in questions if question.question_id in kept]


def _draw(seed: int, name: str) -> str:
    return hashlib.sha256(f"{seed}\0validation\0{name}".encode()).hexdigest()
