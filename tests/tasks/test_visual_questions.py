"""Learning to answer, and that samples are drawn by their number alone."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from medpipe.backbones.vision_language import VisionLanguageNetwork
from medpipe.backbones.vision_language_options import VisionLanguageOptions
from medpipe.backbones.word_tokenizer import ANSWER, END, PAD
from medpipe.datasets.questions import Question
from medpipe.datasets.visual_questions import VisualQuestionSamples
from medpipe.stages.vqa_training import split_by_cluster
from medpipe.tasks.visual_questions import VisualQuestions


@pytest.fixture
def samples(tmp_path: Path) -> VisualQuestionSamples:
    texts = []
    for number in range(6):
        Image.new("RGB", (40, 30), (255 * (number % 2), 0, 120)).save(tmp_path / f"{number}.png")
        texts.append([([4, 5, ANSWER], [6 + number % 2, END]), ([5, ANSWER], [8, END])])
    images = [tmp_path / f"{number}.png" for number in range(6)]
    return VisualQuestionSamples(images, texts, side=16, length=8, per_image=2, seed=0, mirror=True, shift=2)


def test_a_sample_is_named_by_its_number(samples: VisualQuestionSamples) -> None:
    first = samples[17]
    samples[3]
    again = samples[17]
    assert all(np.array_equal(first[key], again[key]) for key in first)
    assert first["image"].shape == (3, 16, 16)
    assert first["tokens"].shape == first["is_answer"].shape == (2, 8)
    assert (first["tokens"][first["is_answer"]] != PAD).all()
    assert first["is_answer"].sum() == 4


def test_every_image_comes_once_a_pass(samples: VisualQuestionSamples) -> None:
    assert sorted(samples._image_of(index) for index in range(6, 12)) == list(range(6))


def test_a_few_steps_teach_the_colour(samples: VisualQuestionSamples) -> None:
    torch.manual_seed(0)
    options = VisionLanguageOptions(
        image_size=16, stride=4, width=16, heads=2, image_depth=1, text_depth=1, max_tokens=8
    )
    network = VisionLanguageNetwork(options, vocabulary_size=10)
    task = VisualQuestions(network)
    optimiser = torch.optim.AdamW(network.parameters(), lr=5e-3)
    losses = []
    for step in range(40):
        drawn = [samples[6 * step + n] for n in range(6)]
        batch = {key: torch.from_numpy(np.stack([sample[key] for sample in drawn])) for key in drawn[0]}
        loss = task.loss(batch, step)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss))
    assert losses[-1] < 0.1 < losses[0]
    images = torch.stack([torch.zeros(3, 16, 16), torch.zeros(3, 16, 16)])
    images[1, 0], images[:, 2] = 255, 120
    answers = network.eval().answer(images, [[4, 5, ANSWER]] * 2, torch.tensor([0, 1]), max_new_tokens=3)
    assert answers == [[6, END], [7, END]]


def test_the_loss_is_that_of_the_answers_tokens_alone() -> None:
    torch.manual_seed(0)
    options = VisionLanguageOptions(image_size=16, stride=4, width=16, heads=2, text_depth=2, max_tokens=8)
    task = VisualQuestions(VisionLanguageNetwork(options, vocabulary_size=10))
    tokens = torch.randint(3, 10, (2, 2, 8))
    tokens[:, :, 7] = PAD
    is_answer = torch.zeros(2, 2, 8, dtype=torch.bool)
    for row, (start, end) in enumerate([(3, 5), (6, 7), (2, 5), (5, 7)]):
        is_answer.view(4, 8)[row, start:end] = True
    image = torch.randint(0, 255, (2, 3, 16, 16), dtype=torch.uint8)
    logits = task.network(image, tokens)[:, :, :-1][is_answer[:, :, 1:]]
    expected = torch.nn.functional.cross_entropy(logits, tokens[is_answer])
    found = task.loss({"image": image, "tokens": tokens, "is_answer": is_answer}, 0)
    torch.testing.assert_close(found, expected)


def test_no_cluster_is_on_both_sides() -> None:
    questions = [
        Question(f"q{n}", "t", "yes_no", "?", "yes", (f"{n // 3}.png",), cluster=f"{n // 3}") for n in range(60)
    ]
    training, held_out = split_by_cluster(questions, 0.2, seed=0)
    assert len({question.cluster for question in held_out}) == 4
    assert not {question.cluster for question in training} & {question.cluster for question in held_out}
    with pytest.raises(ValueError, match="at least two"):
        split_by_cluster(questions[:3], 0.2, seed=0)
