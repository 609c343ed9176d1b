"""The pelvic phantoms: reproducible, shaped like a pelvis, varied, and as overlapping as real structures are."""

import subprocess
import sys

import numpy as np
import pytest

from medpipe.datasets.phantom.build import Draws, draw_build
from medpipe.datasets.phantom.organs import draw_organs
from medpipe.datasets.phantom.pelvis import (
    BONE_STRUCTURES,
    PELVIC_STRUCTURES,
    PelvisConfig,
    Phantom,
    generate_pelvis,
)

# Coarser than the demo's grid: a phantom in about 0.3 s.
COARSE = PelvisConfig(spacing_mm=(6.0, 4.0, 4.0), missing_uterus_share=0.0, missing_sigmoid_share=0.0)
SEEDS = range(100, 106)


@pytest.fixture(scope="module")
def phantoms() -> list[Phantom]:
    return [generate_pelvis(seed, COARSE) for seed in SEEDS]


def volume_ml(phantom: Phantom, structure: str) -> float:
    return float(phantom.masks.mask(structure).sum() * phantom.masks.grid.voxel_ml)


def middle_mm(phantom: Phantom, structure: str) -> np.ndarray:
    indices = np.argwhere(phantom.masks.mask(structure))
    return phantom.masks.grid.index_to_world(indices.mean(axis=0, keepdims=True))[0]


def body(phantom: Phantom) -> np.ndarray:
    """Everything between the first and the last voxel of tissue in each row: gas in the bowel is inside."""
    tissue = phantom.volume.array > -300
    from_left = np.maximum.accumulate(tissue, axis=2)
    from_right = np.maximum.accumulate(tissue[:, :, ::-1], axis=2)[:, :, ::-1]
    return from_left & from_right


def test_the_same_seed_gives_the_same_phantom_and_another_seed_another() -> None:
    first, again, other = (generate_pelvis(seed, COARSE) for seed in (7, 7, 8))
    assert np.array_equal(first.volume.array, again.volume.array)
    assert np.array_equal(first.masks.array, again.masks.array)
    assert np.array_equal(first.volume.affine, again.volume.affine)
    assert first.volume.shape != other.volume.shape or not np.array_equal(first.volume.array, other.volume.array)


def test_another_process_with_another_hash_seed_draws_the_same() -> None:
    code = (
        "import hashlib; from medpipe.datasets.phantom.pelvis import PelvisConfig, generate_pelvis;"
        "p = generate_pelvis(3, PelvisConfig(spacing_mm=(9.0, 6.0, 6.0)));"
        "print(hashlib.sha256(p.volume.array.tobytes() + p.masks.array.tobytes()).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "OMP_NUM_THREADS": threads, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed, threads in (("1", "1"), ("2", "2"))
    }
    assert len(digests) == 1


def test_the_anatomy_does_not_depend_on_the_grid() -> None:
    fixed = {"spacing_variation": 0.0}
    coarse = generate_pelvis(5, PelvisConfig(spacing_mm=(6.0, 4.0, 4.0), **fixed))
    fine = generate_pelvis(5, PelvisConfig(spacing_mm=(4.0, 2.5, 2.5), **fixed))
    for structure in PELVIC_STRUCTURES:
        # A voxel's width around an organ of 30 mm: volumes agree to some percent.
        assert volume_ml(coarse, structure) == pytest.approx(volume_ml(fine, structure), rel=0.12), structure


def test_fractions_share_bones_and_differ_in_filling() -> None:
    config = COARSE.model_copy(update={"fractions": 2, "deformation_mm": 0.0})
    first, second = (generate_pelvis(11, config, fraction=fraction) for fraction in (0, 1))
    assert (first.patient_id, second.patient_id) == ("phantom_0011", "phantom_0011")
    assert (first.case_id, second.case_id) == ("phantom_0011_fx1", "phantom_0011_fx2")
    assert volume_ml(first, "sacrum") == pytest.approx(volume_ml(second, "sacrum"), rel=0.05)
    assert abs(volume_ml(first, "bladder") / volume_ml(second, "bladder") - 1) > 0.02


def test_spacing_is_anisotropic_and_varies_within_its_bounds(phantoms: list[Phantom]) -> None:
    spacings = np.array([phantom.volume.spacing_mm for phantom in phantoms])
    assert np.allclose(spacings[:, 1], spacings[:, 2])
    assert (spacings[:, 0] > 1.2 * spacings[:, 1]).all()
    assert (np.abs(spacings / COARSE.spacing_mm - 1) <= COARSE.spacing_variation + 1e-9).all()
    assert np.ptp(spacings[:, 0]) > 0


def test_hounsfield_units_are_those_of_a_pelvis(phantoms: list[Phantom]) -> None:
    for phantom in phantoms:
        hu = phantom.volume.array
        assert hu.dtype == np.int16
        assert -1024 <= hu.min() < -1000
        assert hu.max() > 1500  # metal
        assert np.median(hu[:, :3, :]) == pytest.approx(-1000, abs=10)  # air before the body
        assert -15 < np.median(hu[phantom.masks.mask("uterus")]) < 100
        bones = phantom.masks.array[[PELVIC_STRUCTURES.index(name) for name in BONE_STRUCTURES]].any(axis=0)
        assert 150 < np.median(hu[bones]) < 600
        fat = (hu > -130) & (hu < -70) & ~phantom.masks.array.any(axis=0)
        assert fat.sum() > 0.08 * body(phantom).sum()


def test_structures_lie_in_the_body_and_in_one_piece(phantoms: list[Phantom]) -> None:
    from scipy import ndimage

    for phantom in phantoms:
        inside = body(phantom)
        for structure in PELVIC_STRUCTURES:
            mask = phantom.masks.mask(structure)
            assert ndimage.label(mask)[1] == 1, (phantom.case_id, structure)
            assert (mask & ~inside).sum() <= 0.01 * mask.sum(), (phantom.case_id, structure)


def test_left_is_left_and_organs_lie_in_their_order(phantoms: list[Phantom]) -> None:
    for phantom in phantoms:
        at = {structure: middle_mm(phantom, structure) for structure in PELVIC_STRUCTURES}
        assert at["hip_left"][0] < at["sacrum"][0] < at["hip_right"][0]
        assert at["femur_left"][0] < at["bladder"][0] < at["femur_right"][0]
        assert at["sacrum"][1] < at["ctv_high_risk"][1] < at["bladder"][1]
        assert at["rectum"][1] < at["ctv_high_risk"][1]
        assert at["rectum"][2] < at["sigmoid_colon"][2]
        assert at["ctv_high_risk"][2] < at["uterus"][2] + 5


def test_sizes_are_those_of_organs(phantoms: list[Phantom]) -> None:
    for phantom in phantoms:
        # The bladder is dented by its neighbours after its filling was drawn.
        assert 0.4 * COARSE.bladder_ml[0] < volume_ml(phantom, "bladder") < 1.1 * COARSE.bladder_ml[1]
        assert 20 < volume_ml(phantom, "ctv_high_risk") < 90
        assert 25 < volume_ml(phantom, "rectum") < 120
        assert 40 < volume_ml(phantom, "sigmoid_colon") < 200
        assert 40 < volume_ml(phantom, "uterus") < 200
    fillings = [volume_ml(phantom, "bladder") for phantom in phantoms]
    assert max(fillings) > 1.5 * min(fillings)


def test_only_target_and_uterus_overlap(phantoms: list[Phantom]) -> None:
    for phantom in phantoms:
        target, uterus = phantom.masks.mask("ctv_high_risk"), phantom.masks.mask("uterus")
        assert 0.2 * target.sum() < (target & uterus).sum() < 0.98 * target.sum()
        others = [name for name in PELVIC_STRUCTURES if name != "ctv_high_risk"]
        counts = np.sum([phantom.masks.mask(name) for name in others], axis=0)
        assert counts.max() == 1
        assert not (target & (counts > 0) & ~uterus).any()


def test_the_sigmoid_colon_begins_where_the_rectum_ends(phantoms: list[Phantom]) -> None:
    from scipy import ndimage

    for phantom in phantoms:
        grown = ndimage.binary_dilation(phantom.masks.mask("rectum"))
        assert (grown & phantom.masks.mask("sigmoid_colon")).any()


def test_organs_are_missing_as_often_as_asked() -> None:
    plans = []
    for seed in range(200):
        draws = Draws(seed, 0)
        build = draw_build(draws.stream("build"))
        streams = draws.stream("organs"), draws.stream("filling")
        plans.append(
            draw_organs(*streams, build, bladder_ml=(60, 280), missing_uterus_share=0.2, missing_sigmoid_share=0.1)
        )
    # 40 and 20 of 200 expected, SD 5.7 and 4.2: bounds at three SD.
    assert 23 <= sum(not plan.has_uterus for plan in plans) <= 57
    assert 8 <= sum(not plan.has_sigmoid for plan in plans) <= 32


@pytest.mark.parametrize("structure", ["uterus", "sigmoid_colon"])
def test_a_missing_organ_has_an_empty_mask(structure: str) -> None:
    share = "missing_uterus_share" if structure == "uterus" else "missing_sigmoid_share"
    phantom = generate_pelvis(4, COARSE.model_copy(update={share: 1.0}))
    for name in PELVIC_STRUCTURES:
        assert phantom.masks.mask(name).any() == (name != structure), name


def test_without_applicator_there_is_no_metal_and_without_streaks_less_error() -> None:
    plain = generate_pelvis(9, COARSE.model_copy(update={"applicator": False}))
    clean, streaky = (
        generate_pelvis(9, COARSE.model_copy(update={"streak_strength": strength})) for strength in (0.0, 1.0)
    )
    assert plain.volume.array.max() < 1500 < clean.volume.array.max()
    error = streaky.volume.array.astype(float) - clean.volume.array
    with_metal = (clean.volume.array > 1500).any(axis=(1, 2))
    assert np.std(error[with_metal]) > 8
    assert not error[~with_metal].any()


def test_impossible_values_are_refused_with_a_way_out() -> None:
    with pytest.raises(ValueError, match="larger size_mm or a smaller spacing_mm"):
        PelvisConfig(spacing_mm=(40.0, 2.5, 2.5))
    with pytest.raises(ValueError, match="lowest < highest"):
        PelvisConfig(bladder_ml=(200.0, 100.0))
    with pytest.raises(ValueError, match="fraction below 1"):
        generate_pelvis(0, COARSE, fraction=1)
