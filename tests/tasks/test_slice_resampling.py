import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from medpipe.geometry.volume import Grid
from medpipe.tasks.slice_resampling import axis_positions, label_type, resampled_slices


def grid(shape: tuple[int, int, int], spacing: tuple[float, float, float], origin: tuple = (0.0, 0.0, 0.0)) -> Grid:
    turned = np.array([[0, 0, 1], [0, 1, 0], [1, 0, 0]])  # d to z, h to y, w to x
    affine = np.eye(4)
    affine[:3, :3] = turned * np.asarray(spacing)
    affine[:3, 3] = origin
    return Grid(shape, affine)


SOURCE = grid((6, 7, 8), (3.0, 1.5, 1.5))
TARGETS = [
    grid((17, 10, 13), (1.0, 1.0, 0.9), (0.3, -1.0, -0.8)),  # finer, over both ends
    grid((3, 3, 4), (5.0, 4.0, 3.0), (1.0, 0.5, 2.0)),  # coarser: slices of the source are jumped over
    SOURCE,
]


def some_probabilities(outputs: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(outputs)
    return (torch.randn(outputs, *SOURCE.shape, generator=generator) * 2).softmax(0)


def at_once(probabilities: torch.Tensor, target: Grid) -> np.ndarray:
    """The whole volume, by another library: linear, ends repeated."""
    positions = np.meshgrid(*axis_positions(SOURCE, target), indexing="ij")
    return np.stack([map_coordinates(p, positions, order=1, mode="nearest") for p in probabilities.numpy()])


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("outputs", [3, 40])  # 40: more than are decided at a time
def test_labels_are_those_of_the_whole_volume_at_once(target: Grid, outputs: int) -> None:
    probabilities = some_probabilities(outputs)
    slices = iter(probabilities.unbind(1))
    labels = np.stack(list(resampled_slices(slices, SOURCE, target, "softmax")))
    whole = at_once(probabilities, target)
    # Where two are closer than float32 rounding either may win.
    best_two = np.sort(whole, axis=0)[-2:]
    is_clear = best_two[1] - best_two[0] > 1e-5
    assert is_clear.mean() > 0.99
    assert labels.shape == target.shape
    assert np.array_equal(labels[is_clear], whole.argmax(0)[is_clear])
    assert next(slices, None) is None


def test_masks_are_half_and_above() -> None:
    probabilities = some_probabilities(3)
    masks = np.stack(list(resampled_slices(probabilities.unbind(1), SOURCE, TARGETS[0], "sigmoid")), axis=1)
    whole = at_once(probabilities, TARGETS[0])
    is_clear = np.abs(whole - 0.5) > 1e-5
    assert np.array_equal(masks[is_clear], (whole >= 0.5)[is_clear])
    half = torch.full((1, *SOURCE.shape), 0.5)
    assert all(plane.all() for plane in resampled_slices(half.unbind(1), SOURCE, TARGETS[0], "sigmoid"))


def test_slices_are_taken_only_as_they_are_needed() -> None:
    taken: list[int] = []

    def arriving() -> object:
        for number, plane in enumerate(some_probabilities(3).unbind(1)):
            taken.append(number)
            yield plane

    labels = resampled_slices(arriving(), SOURCE, TARGETS[0], "softmax")  # type: ignore[arg-type]
    next(labels)
    assert taken == [0, 1]


def test_grids_that_are_turned_against_each_other_are_our_fault() -> None:
    turned = Grid(SOURCE.shape, SOURCE.affine[:, [1, 0, 2, 3]])
    with pytest.raises(AssertionError, match="turned"):
        axis_positions(SOURCE, turned)


def test_labels_are_stored_small() -> None:
    assert label_type(256) == np.uint8
    assert label_type(257) == np.uint16
