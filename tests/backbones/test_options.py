"""The options of backbones: what is refused, what is derived."""

import pytest
from pydantic import ValidationError

from medpipe.backbones.options import DynUnetOptions, StunetOptions, total_strides
from medpipe.backbones.registry import VOLUME_BACKBONES


def test_strides_multiply_from_level_to_level() -> None:
    assert total_strides(((1, 1, 1), (1, 2, 2), (2, 2, 2))) == ((1, 1, 1), (1, 2, 2), (2, 4, 4))


def test_every_backbone_has_a_size_tiny() -> None:
    for name, entry in VOLUME_BACKBONES.items():
        assert entry.options.model_validate({"size": "tiny"}).name == name


def test_dynunet_grows_to_ten_times_its_base_width() -> None:
    assert DynUnetOptions().widths == (32, 64, 128, 256, 320, 320)
    assert DynUnetOptions(size="tiny").widths == (8, 16, 32, 64, 80, 80)
    assert DynUnetOptions(size="tiny", base_width=4).widths == (4, 8, 16, 32, 40, 40)


def test_dynunet_kernels_are_flat_where_slices_are_thick() -> None:
    options = DynUnetOptions(strides=((1, 1, 1), (1, 2, 2), (1, 2, 2), (2, 2, 2), (2, 2, 2)))
    assert options.kernels == ((1, 3, 3), (1, 3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3))
    assert options.divisor == (4, 16, 16)
    assert set(DynUnetOptions().kernels) == {(3, 3, 3)}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"filters": (8, 16)}, "'filters' has 2 entries, 'strides' 6"),
        ({"strides": ((2, 2, 2),) * 3}, "must keep the grid"),
        ({"kernel_sizes": ((3, 3, 2),) * 6}, "must be odd"),
        ({"strides": ((1, 1, 1), (2, 2, 3), (2, 2, 2))}, "less than or equal to 2"),
    ],
)
def test_dynunet_levels_that_do_not_fit_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        DynUnetOptions.model_validate(values)


@pytest.mark.parametrize("values", [{"tiny_width": 16}, {"size": "medium"}, {"strides": ((2, 2, 2),)}, {"width": 3}])
def test_unknown_sizes_of_stunet_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        StunetOptions.model_validate(values)
