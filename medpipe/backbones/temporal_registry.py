"""The table of temporal backbones, free of torch. To add one: its options, its module, and a line here."""

import importlib
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, NamedTuple

from pydantic import Field

from medpipe.backbones.temporal_options import (
    AsFormerOptions,
    ColonTcnOptions,
    FramewiseOptions,
    MsTcnOptions,
    TecnoOptions,
    TemporalOptions,
    TemporalTransformerOptions,
)

if TYPE_CHECKING:
    from medpipe.backbones.temporal import TemporalBackbone


class TemporalEntry(NamedTuple):
    """A line of the table: the options and where the class is, as "module:Class"."""

    options: type[TemporalOptions]
    target: str


TEMPORAL_BACKBONES: dict[str, TemporalEntry] = {
    "colon_tcn": TemporalEntry(ColonTcnOptions, "medpipe.backbones.colon_tcn:ColonTcn"),
    "ms_tcn": TemporalEntry(MsTcnOptions, "medpipe.backbones.ms_tcn:MsTcn"),
    "tecno": TemporalEntry(TecnoOptions, "medpipe.backbones.tecno:Tecno"),
    "asformer": TemporalEntry(AsFormerOptions, "medpipe.backbones.asformer:AsFormer"),
    "temporal_transformer": TemporalEntry(
        TemporalTransformerOptions, "medpipe.backbones.temporal_transformer:TemporalTransformer"
    ),
    "framewise": TemporalEntry(FramewiseOptions, "medpipe.backbones.framewise:Framewise"),
}

if TYPE_CHECKING:
    TemporalBackboneConfig = TemporalOptions
else:
    TemporalBackboneConfig = Annotated[
        reduce(or_, (entry.options for entry in TEMPORAL_BACKBONES.values())), Field(discriminator="name")
    ]


def build_temporal_backbone(options: TemporalOptions, *, input_dim: int, num_phases: int) -> "TemporalBackbone":
    """The backbone that the options name, freshly initialised. Raises ValueError: a name that is not in the table."""
    if options.name not in TEMPORAL_BACKBONES:
        raise ValueError(f"no temporal backbone '{options.name}'; there are {', '.join(TEMPORAL_BACKBONES)}")
    module, name = TEMPORAL_BACKBONES[options.name].target.split(":")
    return getattr(importlib.import_module(module), name)(options, input_dim=input_dim, num_phases=num_phases)
