"""A tiny random Qwen2.5-VL learns a handful of pairs by the stage vqa_training: by adapters, whole, killed, gone on."""

import json
import shutil
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from safetensors.torch import load_file

from medpipe.datasets.cases import DataConfig
from medpipe.geometry.faults import DataFault
from medpipe.language.model import Asked
from medpipe.language.options import GenerationConfig, TrainedModel, TransformersModel
from medpipe.language.trained import load_trained
from medpipe.language.transformers_model import LocalModel, load_folder
from medpipe.language.tuning import folder_identity
from medpipe.language.tuning_samples import IGNORED, TaughtQuestion, TuningSamples
from medpipe.stages.question_answering import QuestionAnswering
from medpipe.stages.stage import StageRun
from medpipe.stages.vqa_training import VqaTraining

NAMES = ("red", "green", "blue", "white")
COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "white": (255, 255, 255)}


class Quiet:
    """What a stage says, kept."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.console = SimpleNamespace(print=lambda *args, **options: None)

    def say(self, text: str) -> None:
        self.said.append(text)

    warn = say

    @contextmanager
    def progress(self, label: str, total: int, done: int = 0) -> Any:
        yield SimpleNamespace(advance=lambda count=1, note="": None)


@pytest.fixture(scope="module")
def coloured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight plain pictures of four colours, and the question which; two pictures more to look at."""
    folder = tmp_path_factory.mktemp("coloured")
    rows = []
    for number in range(10):
        name = NAMES[number % 4]
        Image.new("RGB", (56 + 28 * (number % 2), 56), COLOURS[name]).save(folder / f"{number}.png")
        row = {"id": f"q{number}", "image": f"{number}.png", "question": "Which?", "answer": name, "task": "open"}
        rows.append(json.dumps(row))
    (folder / "q.jsonl").write_text("\n".join(rows) + "\n")
    (folder / "mine.yaml").write_text(
        "question_set: mine\nformat: json_lines\nvocabulary: words.yaml\nfiles: [{path: q.jsonl}]\n"
    )
    (folder / "words.yaml").write_text("vocabulary: words\ntasks: {open: {title: open, kind: text}}\n")
    return folder


def stage(base: Path, tuning: dict[str, Any], *, steps: int = 6, **changes: Any) -> VqaTraining:
    training = {
        "num_steps": steps, "batch_size": 4, "optimiser": "adamw", "learning_rate": 1e-2, "schedule": "constant",
        "gradient_clip": 1.0, "num_workers": 0, "accelerator": "cpu", "save_every_steps": 2,
        **changes.pop("training", {}),
    }  # fmt: skip
    backbone = {"name": "transformers", "folder": base, "tuning": tuning, **changes.pop("backbone", {})}
    return VqaTraining.model_validate(
        {"stage": "vqa_training", "questions": {"question_set": "mine.yaml"}, "backbone": backbone,
         "training": training, "validation_share": 0.2, **changes}
    )  # fmt: skip


def run_of(folder: Path, data: Path, should_stop: Callable[[], bool] = lambda: False, **inputs: Path) -> StageRun:
    folder.mkdir(exist_ok=True)
    return StageRun(
        name="train", folder=folder, seed=0, data=DataConfig(root=data), inputs=inputs, output=Quiet(),
        should_stop=should_stop, base=data,
    )  # fmt: skip


LORA = {"method": "lora", "rank": 4, "alpha": 16}


def test_answers_alone_have_loss_and_stand_where_they_are_generated(tiny_qwen: Path, tmp_path: Path) -> None:
    for number, size in enumerate(((56, 56), (112, 84))):
        Image.new("RGB", size).save(tmp_path / f"{number}.png")
    model, processor = load_folder(tiny_qwen, torch.float32)
    taught = [
        TaughtQuestion("a", "Is a polyp visible?", "yes", (tmp_path / "0.png",)),
        TaughtQuestion("b", "Which option is right, of all these?", "a longer answer", (tmp_path / "1.png",)),
    ]
    samples = TuningSamples(taught, processor, seed=0, ends=[model.generation_config.eos_token_id])
    (part,) = samples.collate([(question, [Image.open(question.images[0])]) for question in taught])
    tokenizer = processor.tokenizer
    for row, question in enumerate(taught):
        answer = part["labels"][row][part["labels"][row] != IGNORED]
        assert tokenizer.decode(answer) == f"{question.answer}<|im_end|>"
        width = part["labels"].shape[1]
        prompt = part["input_ids"][row, :-width][part["attention_mask"][row, :-width].bool()]
        asked = tokenizer.decode(prompt)
        assert asked.endswith("<|im_start|>assistant\n")
        assert question.prompt in asked
        assert "<|image_pad|>" in asked
        assert question.answer not in asked
    assert part["mm_token_type_ids"].shape == part["input_ids"].shape
    assert not part["mm_token_type_ids"][:, -part["labels"].shape[1] :].any()


def test_parts_of_a_batch_make_the_same_gradient(tiny_qwen: Path, coloured: Path) -> None:
    from medpipe.tasks.answer_tuning import AnswerTuning

    model, processor = load_folder(tiny_qwen, torch.float32)
    taught = [
        TaughtQuestion(f"{n}", "Which?" * (n + 1), "a b c d"[: 2 * n + 1], (coloured / f"{n}.png",)) for n in range(4)
    ]
    gradients, losses = [], []
    for size in (None, 1, 3):
        task = AnswerTuning(model)
        samples = TuningSamples(taught, processor, seed=0, part_size=size)
        batch = samples.collate([samples[n] for n in range(4)])
        model.zero_grad()
        loss = task.loss(batch, 0)
        loss.backward()
        losses.append(float(loss.detach()))
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    assert losses[1:] == pytest.approx(losses[:1] * 2, rel=1e-5)
    for other in gradients[1:]:
        assert float((gradients[0] - other).norm() / gradients[0].norm()) < 1e-4  # rounding alone
    labels = [part["labels"] for part in batch]
    whole = model(**{k: v for k, v in batch[0].items() if k != "labels"}).logits[:, -labels[0].shape[1] - 1 : -1]
    count = sum(int((label != IGNORED).sum()) for label in labels)
    by_hand = torch.nn.functional.cross_entropy(whole.flatten(0, 1), labels[0].flatten(), reduction="sum") / count
    rest = task._sum(batch[1]) / count
    assert float(by_hand.detach() + rest.detach()) == pytest.approx(losses[0], rel=1e-5)


@pytest.fixture(scope="module")
def learned(tiny_qwen: Path, coloured: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lora") / "train"
    stage(tiny_qwen, LORA, steps=60, backbone={"micro_batch_size": 3}).run(run_of(folder, coloured))
    return folder


def test_adapters_learn_the_pairs_and_the_base_stays_bit_for_bit(
    tiny_qwen: Path, coloured: Path, learned: Path, tmp_path: Path
) -> None:
    record = json.loads((learned / "model.json").read_text())
    assert record["base_identity"] == folder_identity(tiny_qwen)
    tensors = load_file(learned / "adapter/adapter_model.safetensors")
    assert tensors
    assert all("lora_" in name and "visual" not in name for name in tensors)
    assert any(tensor.any() for name, tensor in tensors.items() if "lora_B" in name)
    assert not list(learned.glob("*.ckpt"))
    config = TrainedModel.model_validate({"name": "trained", "training": {"from": "train"}})
    model = load_trained(learned, GenerationConfig(max_new_tokens=12), config)
    assert isinstance(model, LocalModel)
    base = load_file(tiny_qwen / "model.safetensors")
    inside = {
        name.replace(".base_layer", ""): tensor for name, tensor in model.model.get_base_model().state_dict().items()
    }
    plain, _ = load_folder(tiny_qwen, torch.float32)
    for name, tensor in plain.state_dict().items():
        assert torch.equal(inside[name], tensor), name
    assert base
    asked = [Asked(f"q{n}", "Which?", (Image.open(coloured / f"{n}.png").convert("RGB"),)) for n in range(8)]
    together = [reply.text for reply in model.answer_all(asked)]
    assert together == [model.answer_all([one])[0].text for one in asked]
    assert sum(answer == NAMES[n % 4] for n, answer in enumerate(together)) >= 6, together
    untouched = LocalModel.of_folder(
        TransformersModel(name="transformers", folder=tiny_qwen), GenerationConfig(max_new_tokens=12)
    )
    assert sum(reply.text == NAMES[n % 4] for n, reply in enumerate(untouched.answer_all(asked))) == 0


def test_the_stage_of_answering_asks_what_was_learned(learned: Path, coloured: Path, tmp_path: Path) -> None:
    answering = QuestionAnswering.model_validate(
        {"stage": "question_answering", "questions": {"question_set": "mine.yaml"},
         "model": {"name": "trained", "training": {"from": "train"}}, "generation": {"max_new_tokens": 12}}
    )  # fmt: skip
    run = run_of(tmp_path / "answer", coloured, train=learned)
    answering.run(run)
    answers = [json.loads(line)["answer"] for line in (run.folder / "answers.jsonl").read_text().splitlines()]
    assert len(answers) == 10
    assert sum(answer == NAMES[n % 4] for n, answer in enumerate(answers)) >= 6
    changed = answering.model_copy(update={"prompt": type(answering.prompt)(template="{question} Briefly.")})
    again = run_of(tmp_path / "again", coloured, train=learned)
    changed.run(again)
    assert "the prompt is not the one that the model was trained with" in again.output.said


def test_another_base_folder_is_refused(tiny_qwen: Path, coloured: Path, learned: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(tiny_qwen, other)
    tensors = load_file(other / "model.safetensors")
    from safetensors.torch import save_file

    name = next(iter(tensors))
    tensors[name] = tensors[name] + 1e-3
    save_file(tensors, other / "model.safetensors", metadata={"format": "pt"})
    config = TrainedModel.model_validate({"name": "trained", "training": {"from": "train"}, "base_folder": other})
    with pytest.raises(DataFault, match=r"other: not the folder that .* was trained on"):
        load_trained(learned, GenerationConfig(), config)
    moved = tmp_path / "moved"
    shutil.copytree(tiny_qwen, moved)
    load_trained(learned, GenerationConfig(), config.model_copy(update={"base_folder": moved}))
    (learned_copy := tmp_path / "broken").mkdir()
    shutil.copytree(learned, learned_copy, dirs_exist_ok=True)
    (learned_copy / "adapter/adapter_model.safetensors").write_bytes(b"broken")
    with pytest.raises(DataFault, match="missing or damaged"):
        load_trained(learned_copy, GenerationConfig(), config.model_copy(update={"base_folder": moved}))
    begun = tmp_path / "begun"
    begun.mkdir()
    (begun / "base.json").write_text('{"base_identity": "0123456789abcdef"}')
    with pytest.raises(DataFault, match="began on"):
        stage(tiny_qwen, LORA).run(run_of(begun, coloured))


@pytest.mark.parametrize("tuning", [{**LORA, "dropout": 0.2}, {"method": "full"}], ids=["lora", "full"])
def test_a_killed_training_goes_on_to_the_same_weights(
    tiny_qwen: Path, coloured: Path, tmp_path: Path, tuning: dict[str, Any]
) -> None:
    planned = stage(tiny_qwen, tuning, backbone={"micro_batch_size": 2})
    planned.run(run_of(tmp_path / "whole", coloured))
    checkpoint = tmp_path / "parts/checkpoint.ckpt"

    def killed() -> bool:
        if checkpoint.exists():  # asked for the first time behind the save of step 2
            raise RuntimeError("killed")
        return False

    with pytest.raises(RuntimeError, match="killed"):
        planned.run(run_of(tmp_path / "parts", coloured, killed))
    saved = torch.load(checkpoint, weights_only=True)
    if tuning["method"] == "lora":
        assert all("lora_" in name for name in saved["weights"])
    assert saved["step"] == 2
    planned.run(run_of(tmp_path / "parts", coloured))
    files = sorted(path.relative_to(tmp_path / "whole") for path in (tmp_path / "whole").rglob("*.safetensors"))
    assert files
    for file in files:
        whole, parts = (load_file(tmp_path / name / file) for name in ("whole", "parts"))
        assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_full_tuning_leaves_a_folder_of_its_own(tiny_qwen: Path, coloured: Path, tmp_path: Path) -> None:
    before = folder_identity(tiny_qwen)
    run = run_of(tmp_path / "full", coloured)
    stage(tiny_qwen, {"method": "full", "image_encoder": False}, steps=40, training={"learning_rate": 3e-3}).run(run)
    assert folder_identity(tiny_qwen) == before
    alone = LocalModel.of_folder(
        TransformersModel(name="transformers", folder=run.folder / "model"), GenerationConfig(max_new_tokens=12)
    )
    asked = [Asked(f"q{n}", "Which?", (Image.open(coloured / f"{n}.png").convert("RGB"),)) for n in range(8)]
    answers = [reply.text for reply in alone.answer_all(asked)]
    assert sum(answer == NAMES[n % 4] for n, answer in enumerate(answers)) >= 6, answers
    base, _ = load_folder(tiny_qwen, torch.float32)
    now = dict(alone.model.named_parameters())
    moved = {name for name, weight in base.named_parameters() if not torch.equal(weight, now[name])}
    assert moved
    assert not any("visual" in name for name in moved)


def test_values_that_do_not_fit_are_refused(tiny_qwen: Path, coloured: Path, tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="'sampling' is of the small model"):
        stage(tiny_qwen, LORA, sampling={"mirror": True})
    with pytest.raises(ValidationError, match="16-mixed"):
        stage(tiny_qwen, LORA, training={"precision": "16-mixed"})
    with pytest.raises(ValueError, match=r"no linear layer is named nothing; there are .*q_proj"):
        stage(tiny_qwen, {**LORA, "targets": ("nothing",)}).run(run_of(tmp_path / "t", coloured))
    with pytest.raises(DataFault, match=r"no config\.json"):
        stage(tmp_path / "none", LORA).run(run_of(tmp_path / "n", coloured))


def test_a_broken_picture_is_named_with_its_question(tiny_qwen: Path, coloured: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(coloured, data)
    for number in range(10):
        (data / f"{number}.png").write_bytes(np.zeros(100, np.uint8).tobytes())
    with pytest.raises(DataFault, match=r"\d\.png"):
        stage(tiny_qwen, LORA).run(run_of(tmp_path / "b", data))
