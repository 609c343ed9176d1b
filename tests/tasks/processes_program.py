"""A program that trains toy tasks in several processes each, for tests that compare them and kill them.

Reads one JSON line a request: {"world": 2, "trainings": [{"kind": ..., "folder": ..., "values": {...}}, ...]} forks
the processes of a job, which train one after the other, and answers with their ids; {"wait": [ids]} answers with the
exit codes. Lightning is imported once, before the first fork, since that takes ten seconds.
"""

import json
import os
import signal
import socket
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medpipe.backbones.options import StunetOptions
from medpipe.backbones.registry import build_volume_backbone
from medpipe.backbones.temporal_options import ColonTcnOptions
from medpipe.backbones.vision_language import VisionLanguageNetwork
from medpipe.backbones.vision_language_options import VisionLanguageOptions
from medpipe.datasets.embeddings import EmbeddedVideo, EmbeddingIdentity, LabelledVideo
from medpipe.datasets.phase_videos import PhaseSamplingConfig, PhaseVideos
from medpipe.metrics.phases import IGNORED
from medpipe.tasks.masked_pretraining import MaskedPretraining, build_masked_autoencoder
from medpipe.tasks.options import LossConfig, MaskingConfig, TeacherConfig, TrainingConfig
from medpipe.tasks.phase_model import build_phase_network
from medpipe.tasks.phase_options import PhaseLossConfig
from medpipe.tasks.phase_segmentation import PhaseSegmentation
from medpipe.tasks.processes import Processes, connect
from medpipe.tasks.segmentation import Segmentation
from medpipe.tasks.segmentation_network import SegmentationNetwork
from medpipe.tasks.task import Task
from medpipe.tasks.training import fit
from medpipe.tasks.visual_questions import VisualQuestions
from medpipe.tasks.world import World

TINY = StunetOptions(size="tiny", tiny_width=4)
BATCH, STEPS = 4, 4
REQUEUE, FAILED = 75, 1


class Patches:
    """Keyed patches that differ in all that a mean may be over: voxels that count, structures, blocks of air."""

    def __init__(self, output: str | None) -> None:
        self.output = output

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([7, index])
        volume = rng.normal(size=(1, 32, 32, 64)).astype(np.float32)
        volume[:, : 16 * (index % 2)] = -3  # air: these blocks do not count
        item = {"volume": torch.from_numpy(volume)}
        if self.output is not None:
            labels = (volume[0] > 0.5).astype(np.int64) + (volume[0] > 1.5)
            labels[:, :, 64 - 14 * (index % 4) :] = -1
            masks = np.where(labels == -1, -1, np.stack([labels == 1, labels == 2]))
            item["target"] = torch.from_numpy(labels if self.output == "softmax" else masks.astype(np.int64))
            item["is_annotated"] = torch.tensor([index % 4 != 1, index % 3 > 0])
        return item


class Questions:
    """Answers of one to three tokens."""

    def __getitem__(self, index: int) -> dict[str, Any]:
        rng = np.random.default_rng([8, index])
        tokens, is_answer = np.zeros((2, 8), dtype=np.int64), np.zeros((2, 8), dtype=bool)
        for row in range(2):
            length = int(rng.integers(1, 4))
            tokens[row, : 3 + length] = rng.integers(3, 10, 3 + length)
            is_answer[row, 3 : 3 + length] = True
        return {"image": rng.integers(0, 255, (3, 16, 16)).astype(np.uint8), "tokens": tokens, "is_answer": is_answer}


def videos() -> list[LabelledVideo]:
    """Videos of very different lengths, with frames that nobody named."""
    identity, found = EmbeddingIdentity("test", "0", "none", 1.0, 6), []
    for number, length in enumerate((60, 25, 45, 12, 33)):
        rng = np.random.default_rng([9, number])
        labels = np.repeat(rng.integers(0, 9, -(-length // 5)), 5)[:length].astype(np.int64)
        labels[: 6 * number] = IGNORED
        is_valid = rng.random(length) > 0.1
        embeddings = rng.normal(size=(length, 6)).astype(np.float16)
        video = EmbeddedVideo(str(number), identity, np.arange(float(length)), is_valid, embeddings)
        found.append(LabelledVideo(video, labels))
    return found


def build(kind: str) -> tuple[Task, Any]:
    """The task and the data of a kind of training; the initial weights are always the same."""
    torch.manual_seed(0)
    if kind.startswith("segmentation"):
        output = "sigmoid" if "sigmoid" in kind else "softmax"
        network = SegmentationNetwork(build_volume_backbone(TINY), num_structures=2, output=output)  # type: ignore[arg-type]
        network.heads[0] = nn.Sequential(nn.Dropout3d(0.2), network.heads[0])
        return Segmentation(network, loss=LossConfig(batch_dice="batch" in kind)), Patches(output)
    if kind == "phases":
        network = build_phase_network(ColonTcnOptions(width=8), 6)
        weights = torch.linspace(0.5, 2, 9)
        loss = PhaseLossConfig(label_smoothing=0.1)
        sampling = PhaseSamplingConfig(noise_sd=0.1)
        return PhaseSegmentation(network, weights=weights, loss=loss), PhaseVideos(
            videos(), sampling, batch_size=BATCH, seed=3
        )
    if kind == "questions":
        options = VisionLanguageOptions(
            image_size=16, stride=4, width=16, heads=2, image_depth=1, text_depth=1, max_tokens=8
        )
        return VisualQuestions(VisionLanguageNetwork(options, vocabulary_size=10)), Questions()
    teacher = TeacherConfig(decay=(0.5, 0.9), final_hard_share=1.0) if kind == "teacher" else None
    masking = MaskingConfig(decoder_width=8, teacher=teacher, method="dense" if kind == "dense" else "sparse")
    task = MaskedPretraining(build_masked_autoencoder(TINY, masking), masking, sd_hu=200.0)
    return task, Patches(None)


def train(kind: str, folder: Path, values: dict[str, Any], processes: Processes, stop: list[int]) -> int:
    """One training, with a validation that all processes share. Returns the exit code."""
    task, data = build(kind)
    wait = values.pop("seconds_a_step", 0.0)
    plain = {
        # SGD: AdamW makes whole steps of gradients that are nothing but rounding (biases before a normalisation).
        "num_steps": STEPS, "batch_size": BATCH, "learning_rate": 1e-3, "optimiser": "sgd", "warmup_steps": 1,
        "gradient_clip": 0.5, "ema_decay": 0.9 if kind == "segmentation" else None, "validate_every": 3,
        "num_workers": 0, "accelerator": "cpu", "save_every_minutes": None,
    }  # fmt: skip
    config = TrainingConfig(**{**plain, **values})  # type: ignore[arg-type]

    def validate(step: int) -> dict[str, float]:
        numbers = processes.merge_shares([float(number) for number in processes.share(range(5))])
        assert numbers == [0.0, 1.0, 2.0, 3.0, 4.0]
        total = sum(float(p.double().square().sum()) for p in task.network.parameters())
        return {task.best_metric: total + sum(numbers), "seen": len(numbers)}

    result = fit(
        task, data, config, folder, seed=3, should_stop=lambda: bool(stop), validate=validate,
        on_step=lambda step, figures: time.sleep(wait), processes=processes,
    )  # fmt: skip
    if not result.finished:
        return REQUEUE
    if processes.is_first:
        weights = {name: tensor.clone() for name, tensor in task.network.state_dict().items()}
        torch.save(weights, folder / "handed_over.pt")
    processes.wait()
    return 0


def job(world: World, trainings: list[dict[str, Any]]) -> int:
    """The trainings of one process of a job."""
    stop: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stop.append(number))
    torch.set_num_threads(1)
    processes = connect(world)
    try:
        for request in trainings:
            values = dict(request.get("values", {}))
            if values.pop("fail_in", None) == world.rank:
                raise ValueError("planted")
            code = train(request["kind"], Path(request["folder"]), values, processes, stop)
            if code:
                return code
        return 0
    except BaseException as error:
        processes.fail(error)
        explained = processes.explained(error)
        print(f"{type(explained).__name__}: {explained}", flush=True)
        traceback.print_exc()
        return REQUEUE if type(explained).__name__ == "ProcessLost" else FAILED
    finally:
        processes.close()


def start(size: int, trainings: list[dict[str, Any]]) -> list[int]:
    """Fork the processes of a job; their ids."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return [
        start_one(World(rank, size, rank, size, 0, 1, "srun", "127.0.0.1", port), trainings) for rank in range(size)
    ]


def start_one(world: World, trainings: list[dict[str, Any]]) -> int:
    child = os.fork()
    if child:
        return child
    code = FAILED
    try:
        folder = Path(trainings[0]["folder"])
        log = os.open(folder.with_name(f"{folder.name}.{world.rank}.log"), os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        code = job(world, trainings)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def answer(request: dict[str, Any]) -> list[int]:
    if "wait" in request:
        return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in request["wait"]]
    return start(request["world"], request["trainings"])


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)
