import numpy as np
import pytest

from medpipe.dicom.contours import mask_to_contours
from medpipe.dicom.keyholes import join_holes
from medpipe.dicom.polygons import fill_polygons


def filled(polygons, shape) -> np.ndarray:
    """Each polygon by itself and the union of them, as a reader fills that knows no exclusive or."""
    mask = np.zeros(shape, bool)
    for polygon in polygons:
        mask |= fill_polygons([polygon], [0], (1, *shape))[0]
    return mask


@pytest.mark.parametrize("density", [0.3, 0.5, 0.7, 0.9])
@pytest.mark.parametrize("seed", range(15))
def test_any_mask_comes_back_though_every_outline_is_filled_alone(density: float, seed: int) -> None:
    mask = np.random.default_rng(seed).random((23, 19)) < density
    joined = join_holes(mask_to_contours(mask))
    np.testing.assert_array_equal(filled(joined, mask.shape), mask)


def test_a_ring_in_a_ring_is_two_outlines() -> None:
    h, w = np.indices((41, 41)) - 20
    radius = np.hypot(h, w)
    mask = (radius < 19) & ~((radius > 12) & (radius < 15)) & ~(radius < 5)
    outlines = mask_to_contours(mask)
    assert len(outlines) == 4
    joined = join_holes(outlines)
    assert len(joined) == 2
    np.testing.assert_array_equal(filled(joined, mask.shape), mask)


def test_the_channel_is_as_wide_as_nothing() -> None:
    mask = np.ones((9, 9), bool)
    mask[3:5, 4:6] = False
    (outline,) = join_holes(mask_to_contours(mask))
    h, w = outline.T
    area = abs(np.sum(h * np.roll(w, -1) - np.roll(h, -1) * w)) / 2
    assert area == mask.sum()


def test_what_has_no_hole_stays_as_it_is() -> None:
    outlines = mask_to_contours(np.eye(5, dtype=bool))
    assert join_holes(outlines) is outlines
