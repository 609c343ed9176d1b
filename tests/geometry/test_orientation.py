from itertools import permutations, product

import numpy as np
import pytest

from medpipe.geometry.orientation import canonical_grid, from_canonical, to_canonical
from medpipe.geometry.volume import Grid, LabelMap, MaskStack, Volume

ORDERS = [(p, f) for p in permutations(range(3)) for f in product((1, -1), repeat=3)]


def axis_grid(order: tuple[int, ...], signs: tuple[int, ...], turn: np.ndarray | None = None) -> Grid:
    directions = np.zeros((3, 3))
    for axis, (world, sign) in enumerate(zip(order, signs, strict=True)):
        directions[world, axis] = sign
    affine = np.eye(4)
    affine[:3, :3] = (np.eye(3) if turn is None else turn) @ directions * [3.0, 0.8, 1.7]
    affine[:3, 3] = [11.0, -22.0, 33.0]
    return Grid((3, 4, 5), affine)


def test_there_and_back_is_the_identity_for_all_48_orientations() -> None:
    assert len(ORDERS) == 48
    array = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
    for order, signs in ORDERS:
        volume = Volume(array, axis_grid(order, signs).affine)
        canonical = to_canonical(volume)
        np.testing.assert_allclose(canonical.grid.direction, [[0, 0, 1], [0, 1, 0], [1, 0, 0]], atol=1e-15)
        assert canonical.array.flags.c_contiguous
        back = from_canonical(canonical, volume.grid)
        np.testing.assert_array_equal(back.array, array)
        np.testing.assert_array_equal(back.affine, volume.affine)


def test_no_voxel_moves_in_the_world() -> None:
    array = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    angle = 0.4
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    for order, signs in ORDERS:
        volume = Volume(array, axis_grid(order, signs, turn).affine)
        canonical = to_canonical(volume)
        places = {}
        for image in (volume, canonical):
            index = np.argwhere(np.ones(image.shape, bool))
            world = image.grid.index_to_world(index)
            places[id(image)] = world[np.argsort(image.array[tuple(index.T)])]
        np.testing.assert_allclose(places[id(volume)], places[id(canonical)], atol=1e-12)
        assert np.trace(canonical.grid.direction[[2, 1, 0]]) > 2.8  # 1 + 2 cos(0.4): each axis nearest to its own


def test_label_maps_and_mask_stacks_turn_like_volumes() -> None:
    grid = axis_grid((1, 2, 0), (-1, 1, -1))
    labels = np.random.default_rng(1).integers(0, 9, size=grid.shape).astype(np.uint8)
    turned = to_canonical(LabelMap(labels, grid.affine)).array
    masks = MaskStack(np.stack([labels == 3, labels == 4]), grid.affine, ("bladder", "rectum"))
    canonical = to_canonical(masks)
    np.testing.assert_array_equal(canonical.mask("rectum"), turned == 4)
    np.testing.assert_array_equal(from_canonical(canonical, grid).array, masks.array)


def test_the_way_back_refuses_an_image_on_another_grid() -> None:
    grid = axis_grid((0, 1, 2), (1, 1, 1))
    other = Volume(np.zeros((5, 4, 2), np.float32), canonical_grid(grid).affine)
    with pytest.raises(ValueError, match="canonical"):
        from_canonical(other, grid)
