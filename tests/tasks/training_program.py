"""A program that trains toy tasks in processes of their own, for tests that kill them.

Reads one JSON line a training ({"kind": ..., "folder": ...}) and answers with the process's id, and to
{"wait": id} with its exit code. Lightning is imported once, before the first fork, since that takes ten seconds.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from medpipe.backbones.options import StunetOptions
from medpipe.backbones.registry import build_volume_backbone
from medpipe.tasks.masked_pretraining import MaskedPretraining, build_masked_autoencoder
from medpipe.tasks.options import MaskingConfig, TeacherConfig, TrainingConfig
from medpipe.tasks.segmentation import Segmentation
from medpipe.tasks.segmentation_network import SegmentationNetwork
from medpipe.tasks.task import Task
from medpipe.tasks.training import fit

TINY = StunetOptions(size="tiny", tiny_width=4)
NUM_STEPS = 14
REQUEUE = 75


class NoisyPatches:
    """Keyed patches that are changed like augmented ones, also by dropout-like holes."""

    def __init__(self, size: tuple[int, int, int], labelled: bool) -> None:
        self.size, self.labelled = size, labelled

    def __getitem__(self, sample_index: int) -> dict[str, torch.Tensor]:
        rng = np.random.default_rng([7, sample_index])
        volume = rng.normal(size=(1, *self.size)).astype(np.float32) * rng.uniform(0.7, 1.4)
        if rng.random() < 0.5:
            volume = np.flip(volume, axis=1)
        item = {"volume": torch.from_numpy(np.ascontiguousarray(volume))}
        if self.labelled:
            item["target"] = torch.from_numpy((volume[0] > 0.5).astype(np.int64) + (volume[0] > 1.5))
            item["is_annotated"] = torch.tensor([True, sample_index % 3 > 0])
        return item


def build(kind: str) -> tuple[Task, NoisyPatches]:
    """The task and the data of a kind of training; the initial weights are always the same."""
    torch.manual_seed(0)
    if kind == "segmentation":
        backbone = build_volume_backbone(TINY)
        network = SegmentationNetwork(backbone, num_structures=2)
        network.heads[0] = nn.Sequential(nn.Dropout(0.2), network.heads[0])  # so that torch's generator counts
        return Segmentation(network), NoisyPatches((32, 32, 64), labelled=True)
    teacher = TeacherConfig(decay=(0.5, 0.9)) if kind == "teacher" else None
    masking = MaskingConfig(decoder_width=8, teacher=teacher)
    task = MaskedPretraining(build_masked_autoencoder(TINY, masking), masking, sd_hu=200.0)
    return task, NoisyPatches((32, 32, 32), labelled=False)


def train(kind: str, folder: Path) -> int:
    """Train to the end or until SIGTERM. Returns the exit code."""
    stop = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(True))
    torch.set_num_threads(2)
    task, data = build(kind)
    config = TrainingConfig(
        num_steps=NUM_STEPS,
        batch_size=2,
        learning_rate=1e-2,
        optimiser="sgd" if kind == "segmentation" else "adamw",
        warmup_steps=2,
        ema_decay=0.9 if kind == "segmentation" else None,
        validate_every=4,
        save_every_steps=3,
        num_workers=2,
        accelerator="cpu",
    )
    name = task.best_metric

    def slow_down(step: int, figures: dict[str, float]) -> None:
        assert set(figures) == {"loss", "learning_rate"}
        time.sleep(0.05)  # so that a signal sent after a step arrives before the next but one

    def validate(step: int) -> dict[str, float]:
        return {name: float(sum(p.double().sum() for p in task.network.parameters()))}

    result = fit(
        task, data, config, folder, seed=3, should_stop=lambda: bool(stop), validate=validate, on_step=slow_down
    )
    if not result.finished:
        return REQUEUE
    torch.save({"handed_over": task.network.state_dict()}, folder / "handed_over.pt")
    return 0


def answer(request: dict[str, Any]) -> int:
    if "wait" in request:
        status = os.waitpid(request["wait"], 0)[1]
        return os.waitstatus_to_exitcode(status)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            log = os.open(Path(request["folder"]).with_suffix(".log"), os.O_CREAT | os.O_WRONLY | os.O_APPEND)
            os.dup2(log, 1)
            os.dup2(log, 2)
            code = train(request["kind"], Path(request["folder"]))
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(code)
    return child


if __name__ == "__main__":
    for line in sys.stdin:
        print(answer(json.loads(line)), flush=True)
