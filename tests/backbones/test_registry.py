"""The table of volume backbones."""

import subprocess
import sys

import pytest
from pydantic import TypeAdapter, ValidationError

from medpipe.backbones.options import BackboneOptions, StunetOptions
from medpipe.backbones.registry import VOLUME_BACKBONES, VolumeBackboneConfig, build_volume_backbone
from medpipe.backbones.stunet import Stunet

ADAPTER: TypeAdapter[BackboneOptions] = TypeAdapter(VolumeBackboneConfig)


@pytest.mark.parametrize("name", VOLUME_BACKBONES)
def test_a_name_chooses_its_options(name: str) -> None:
    assert type(ADAPTER.validate_json(f'{{"name": "{name}", "size": "tiny"}}')) is VOLUME_BACKBONES[name].options


def test_lists_of_a_workflow_become_strides() -> None:
    options = ADAPTER.validate_json(
        '{"name": "stunet", "strides": [[1, 2, 2], [2, 2, 2], [2, 2, 2], [2, 2, 2], [2, 2, 2]]}'
    )
    assert options.divisor == (16, 32, 32)


@pytest.mark.parametrize("text", ['{"name": "unet"}', '{"size": "tiny"}', '{"name": "stunet", "feature_size": 12}'])
def test_unknown_names_and_options_are_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        ADAPTER.validate_json(text)


def test_options_become_the_backbone_they_name() -> None:
    backbone = build_volume_backbone(StunetOptions(size="tiny"), in_channels=2)
    assert isinstance(backbone, Stunet)
    assert backbone.channels[0] == 8


def test_a_name_outside_the_table_is_refused() -> None:
    class Foreign(BackboneOptions):
        name: str = "foreign"

    with pytest.raises(ValueError, match="no volume backbone 'foreign'; there are stunet, dynunet"):
        build_volume_backbone(Foreign())


def test_the_table_is_read_without_torch() -> None:
    program = (
        "import sys; sys.modules['torch'] = sys.modules['monai'] = None; import medpipe.backbones.registry as r; "
        "[entry.options().divisor for entry in r.VOLUME_BACKBONES.values()]"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
