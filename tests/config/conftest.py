"""A toy workflow with every form of value that real ones have, to test the config package without any stage."""

from types import SimpleNamespace
from typing import Annotated, Literal

import pytest
from pydantic import Field, model_validator

from medpipe.config.base import Config, StageRef, execution


class Stunet(Config):
    """The network of the toy."""

    name: Literal["stunet"]
    size: Literal["tiny", "small", "base"] = "base"
    base_width: int | None = None


class SwinUnetr(Config):
    name: Literal["swin_unetr"]
    feature_size: int = 24


Backbone = Annotated[Stunet | SwinUnetr, Field(discriminator="name")]


class Training(Config):
    num_steps: int = Field(gt=0, description="optimiser steps")
    learning_rate: float = 1e-05
    mixed_precision: bool = False
    betas: tuple[float, float] = (0.9, 0.999)
    num_workers: int = execution(2)


class Patches(Config):
    size: tuple[int, int, int] = (32, 32, 32)
    foreground_fraction: float = Field(0.33, ge=0, le=1)


class Pretraining(Config):
    stage: Literal["masked_pretraining"]
    backbone: Backbone
    mask_ratio: float = Field(0.6, gt=0, lt=1)


class Segmentation(Config):
    stage: Literal["segmentation_training"]
    backbone: Backbone | None = None
    start_from: StageRef | None = None
    structures: tuple[str, ...] = ()
    patches: Patches = Patches()
    training: Training
    folds: int | tuple[int, ...] = 5

    @model_validator(mode="after")
    def _has_structures(self) -> "Segmentation":
        if "background" in self.structures:
            raise ValueError("'background' is not a structure; leave it out")
        return self


class Report(Config):
    stage: Literal["report"]
    report: Literal["html", "text"] = "html"
    titles: dict[str, str] = Field(default_factory=dict)


class Workflow(Config):
    workflow: str
    seed: int = 0
    data: dict[str, str | None] = Field(default_factory=dict)
    stages: dict[str, Annotated[Pretraining | Segmentation | Report, Field(discriminator="stage")]]


WORKFLOW = """\
workflow: toy
seed: 3
stages:
  pretrain:
    stage: masked_pretraining
    backbone: {name: stunet, size: base}
  organs:
    stage: segmentation_training
    backbone: {name: stunet, size: base}
    start_from: {from: pretrain}
    structures: [bladder, rectum]
    training: {num_steps: 1000, learning_rate: 1e-2}
"""


@pytest.fixture
def toy() -> SimpleNamespace:
    return SimpleNamespace(
        Workflow=Workflow,
        Segmentation=Segmentation,
        Training=Training,
        Patches=Patches,
        Stunet=Stunet,
        text=WORKFLOW,
        kinds=("masked_pretraining", "segmentation_training", "report"),
    )
