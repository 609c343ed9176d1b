"""Train the small vision-language model on a set's questions.

takes   questions of a training part; a share of its images is held out to look at the accuracy
leaves  weights.safetensors, model.json, tokenizer.json, metrics.csv
"""

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, final

from pydantic import Field

from medpipe.backbones.vision_language_options import VisionLanguageOptions
from medpipe.config.base import Config
from medpipe.datasets.questions import Question, QuestionsConfig
from medpipe.language.options import PromptConfig
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
    """Next-token training of a vision transformer with a text decoder; resumed exactly where it was stopped."""

    work: ClassVar = "training"
    version: ClassVar[int] = 1
    uses_processes: ClassVar[bool] = True

    stage: Literal["vqa_training"]
    questions: QuestionsConfig
    backbone: VisionLanguageOptions = VisionLanguageOptions()
    prompt: PromptConfig = PromptConfig()
    sampling: QuestionSampling = QuestionSampling()
    training: TrainingConfig
    validation_share: float = Field(0.05, gt=0, lt=1, description="of the images, held out with all their questions")

    def run(self, run: StageRun) -> None:
        from medpipe.backbones.vision_language import VisionLanguageNetwork
        from medpipe.backbones.vision_language_files import save_vision_language
        from medpipe.backbones.word_tokenizer import WordTokenizer
        from medpipe.datasets.questions import load_questions
        from medpipe.stages.training import seeded, train
        from medpipe.tasks.checkpoints import CHECKPOINT_FILE
        from medpipe.tasks.visual_questions import VisualQuestions

        loaded = load_questions(self.questions, run.data, run.base)
        training, held_out = split_by_cluster(loaded.questions, self.validation_share, run.seed)
        run.output.say(f"{len(training)} questions to train on, {len(held_out)} of other images to look at")
        tokenizer = WordTokenizer.learned(
            text for question in training for text in (self.text_of(question), question.reference)
        )
        with seeded(run.seed):
            network = VisionLanguageNetwork(self.backbone, vocabulary_size=len(tokenizer))
        task = VisualQuestions(network)
        facts = train(
            run, task, self.samples(training, loaded, tokenizer, run.seed), self.training, run.folder, label="training",
            validate=lambda step: {
                "validation_accuracy": self.accuracy(network, tokenizer, held_out, loaded, run.processes)
            },
        )  # fmt: skip
        if not run.processes.is_first:
            return
        save_vision_language(run.folder, network, tokenizer, {"step": facts["steps"], "training": facts})
        (run.folder / CHECKPOINT_FILE).unlink(missing_ok=True)
        if facts["best_score"] is not None:
            run.output.say(f"accuracy on held-out images: {facts['best_score']:.3f}")

    def text_of(self, question: Question) -> str:
        """The prompt of a question."""
        from medpipe.language.prompts import make_prompt

        return make_prompt(self.prompt, question.kind, question.text, question.options)

    def samples(
        self, questions: Sequence[Question], loaded: "LoadedQuestions", tokenizer: "WordTokenizer", seed: int
    ) -> Any:
        """Questions by image, as tokens. Raises ValueError: one that is longer than the network's `max_tokens`."""
        from medpipe.backbones.word_tokenizer import ANSWER, END
        from medpipe.datasets.visual_questions import VisualQuestionSamples

        texts: dict[str, list[tuple[list[int], list[int]]]] = {}
        for question in questions:
            prompt = [*tokenizer.encode(self.text_of(question)), ANSWER]
            answer = [*tokenizer.encode(question.reference), END]
            if len(prompt) + len(answer) > self.backbone.max_tokens:
                raise ValueError(
                    f"question {question.question_id} takes {len(prompt) + len(answer)} tokens with its answer, "
                    f"more than "
                    f"backbone.max_tokens ({self.backbone.max_tokens}); raise that"
                )
            if question.images:
                texts.setdefault(question.images[0], []).append((prompt, answer))
        return VisualQuestionSamples(
            [loaded.image_path(image) for image in texts], list(texts.values()), side=self.backbone.image_size,
            length=self.backbone.max_tokens, per_image=self.sampling.questions_per_image, seed=seed,
            mirror=self.sampling.mirror, shift=self.sampling.shift_pixels,
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

        side, right = self.backbone.image_size, 0
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


def _draw(seed: int, name: str) -> str:
    return hashlib.sha256(f"{seed}\0validation\0{name}".encode()).hexdigest()
