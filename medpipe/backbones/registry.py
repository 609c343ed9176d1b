"""The table of volume backbones, free of torch, so that a workflow is checked without loading a framework.

To add one: its options, its module, and a line in VOLUME_BACKBONES.
"""

import importlib
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, NamedTuple

from pydantic import Field

from medpipe.backbones.options import (
    BackboneOptions,
    DynUnetOptions,
    HybridOptions,
    MedNextOptions,
    SegResNetOptions,
    StunetOptions,
    SwinUnetrOptions,
    VisionTransformerOptions,
)

if TYPE_CHECKING:
    from medpipe.backbones.backbone import Backbone


class Entry(NamedTuple):
    """A line of the table: the options and where the class is, as "module:Class"."""

    options: type[BackboneOptions]
    target: str


VOLUME_BACKBONES: dict[str, Entry] = {
    "stunet": Entry(StunetOptions, "medpipe.backbones.stunet:Stunet"),
    "dynunet": Entry(DynUnetOptions, "medpipe.backbones.dynunet:DynUnet"),
    "segresnet": Entry(SegResNetOptions, "medpipe.backbones.segresnet:SegResNet"),
    "swin_unetr": Entry(SwinUnetrOptions, "medpipe.backbones.swin_unetr:SwinUnetr"),
    "mednext": Entry(MedNextOptions, "medpipe.backbones.mednext:MedNext"),
    "hybrid": Entry(HybridOptions, "medpipe.backbones.hybrid:Hybrid"),
    "vision_transformer": Entry(VisionTransformerOptions, "medpipe.backbones.vision_transformer:VisionTransformer"),
}

# What a stage writes as the type of its field `backbone`: the options of any of the above, told apart by `name`.
if TYPE_CHECKING:
    VolumeBackboneConfig = BackboneOptions
else:
    VolumeBackboneConfig = Annotated[
        reduce(or_, (entry.options for entry in VOLUME_BACKBONES.values())), Field(discriminator="name")
    ]


def build_volume_backbone(options: BackboneOptions, *, in_channels: int = 1) -> "Backbone":
    """The backbone that the options name, freshly initialised. Raises ValueError: a name that is not in the table."""
    if options.name not in VOLUME_BACKBONES:
        raise ValueError(f"no volume backbone '{options.name}'; there are {', '.join(VOLUME_BACKBONES)}")
    module, name = VOLUME_BACKBONES[options.name].target.split(":")
    return getattr(importlib.import_module(module), name)(options, in_channels=in_channels)
