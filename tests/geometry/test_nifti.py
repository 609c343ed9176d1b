import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medpipe.geometry.faults import DataFault
from medpipe.geometry.nifti import read_label_map, read_mask, read_volume, write_label_map, write_mask, write_volume
from medpipe.geometry.volume import LabelMap, Volume

AFFINE_IJK = np.array([[-0.7, 0, 0, 90], [0, -0.8, 0, 80], [0, 0, 3, -40], [0, 0, 0, 1]], dtype=np.float64)


def hu(shape=(6, 5, 4), dtype=np.int16) -> np.ndarray:
    """Array (I, J, K) as a file holds it."""
    return np.random.default_rng(0).integers(-1000, 1000, size=shape).astype(dtype)


def save(path: Path, array: np.ndarray, affine=AFFINE_IJK, **header) -> Path:
    image = nib.Nifti1Image(array, affine)
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1, strip_shears=True)
    for key, value in header.items():
        image.header[key] = value
    nib.save(image, path)
    return path


def test_arrays_are_dhw_and_voxels_keep_their_place(tmp_path: Path) -> None:
    array = hu()
    volume = read_volume(save(tmp_path / "ct.nii.gz", array))
    assert volume.shape == (4, 5, 6)
    assert volume.array.dtype == np.float32
    np.testing.assert_allclose(volume.spacing_mm, (3, 0.8, 0.7), rtol=1e-6)
    assert volume.array[1, 2, 3] == array[3, 2, 1]
    np.testing.assert_allclose(
        volume.grid.index_to_world(np.array([[1, 2, 3]]))[0], (AFFINE_IJK @ [3, 2, 1, 1])[:3], rtol=1e-6
    )


@pytest.mark.parametrize("name", ["ct.nii", "ct.nii.gz"])
@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_a_volume_written_comes_back(tmp_path: Path, name: str, dtype: type) -> None:
    angle = 0.3
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn[:, ::-1] * [3.0, 0.8, 0.7]
    affine[:3, 3] = (1.5, -2.5, 3.5)
    volume = Volume(hu((4, 5, 6), dtype), affine)
    write_volume(tmp_path / name, volume)
    notes: list[str] = []
    again = read_volume(tmp_path / name, notes=notes)
    np.testing.assert_array_equal(again.array, volume.array)
    np.testing.assert_allclose(again.affine, affine, atol=1e-6)  # headers hold float32
    assert notes == []
    stored = nib.load(tmp_path / name)
    assert stored.get_data_dtype() == dtype
    assert (int(stored.header["sform_code"]), int(stored.header["qform_code"])) == (1, 1)


def test_the_same_volume_gives_the_same_bytes_and_no_partial_file(tmp_path: Path) -> None:
    volume = Volume(hu((4, 5, 6)), np.eye(4))
    for name in ("a.nii.gz", "b.nii.gz"):
        write_volume(tmp_path / name, volume)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.nii.gz", "b.nii.gz"]
    with pytest.raises(ValueError, match=r"named \.nii"):
        write_volume(tmp_path / "a.npy", volume)


def test_scale_and_intercept_of_the_header_are_applied(tmp_path: Path) -> None:
    path = tmp_path / "ct.nii"
    stored = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    image = nib.Nifti1Image(stored, AFFINE_IJK)
    image.set_sform(AFFINE_IJK, code=1)
    nib.save(image, path)
    content = bytearray(path.read_bytes())
    content[112:120] = np.array([2.0, -1024.0], "<f4").tobytes()  # scl_slope and scl_inter
    path.write_bytes(content)
    np.testing.assert_array_equal(read_volume(path).array, stored.T * 2 - 1024)


# Row 6: which transform counts


def test_the_sform_wins_and_disagreement_is_noted_in_mm_and_degrees(tmp_path: Path) -> None:
    other = AFFINE_IJK.copy()
    other[2, 3] += 40
    image = nib.Nifti1Image(hu(), AFFINE_IJK)
    image.set_sform(AFFINE_IJK, code=2)
    image.set_qform(other @ np.diag([-1, 1, 1, 1]), code=1)
    nib.save(image, tmp_path / "ct.nii")
    notes: list[str] = []
    volume = read_volume(tmp_path / "ct.nii", notes=notes)
    np.testing.assert_allclose(volume.affine[:3, 3], AFFINE_IJK[:3, 3], rtol=1e-6)
    assert len(notes) == 1
    assert "ct.nii: sform and qform disagree, the sform is used" in notes[0]
    assert "180.00, 0.00, 0.00 degrees" in notes[0]
    assert "40.00 mm" in notes[0]


def test_the_qform_counts_where_the_sform_is_not_set(tmp_path: Path) -> None:
    image = nib.Nifti1Image(hu(), None)
    image.set_qform(AFFINE_IJK, code=1)
    image.set_sform(np.diag([9, 9, 9, 1]), code=0)
    nib.save(image, tmp_path / "ct.nii")
    np.testing.assert_allclose(read_volume(tmp_path / "ct.nii").affine[:, [2, 1, 0, 3]], AFFINE_IJK, atol=1e-5)


def test_a_header_that_places_nothing_is_refused_with_the_way_out(tmp_path: Path) -> None:
    path = save(tmp_path / "ct.nii", hu())
    content = bytearray(path.read_bytes())
    content[252:256] = bytes(4)  # qform_code and sform_code
    path.write_bytes(content)
    with pytest.raises(DataFault, match=r"ct\.nii: neither sform nor qform.*set_sform"):
        read_volume(path)


def test_voxel_sizes_that_contradict_the_sform_are_noted(tmp_path: Path) -> None:
    path = save(tmp_path / "ct.nii", hu(), qform_code=0, pixdim=[1, 0.7, 0.8, 5, 0, 0, 0, 0])
    notes: list[str] = []
    assert read_volume(path, notes=notes).spacing_mm[0] == pytest.approx(3)
    assert "pixdim says 0.7 x 0.8 x 5 mm" in notes[0]


def test_lengths_in_metres_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataFault, match="lengths are in metres"):
        read_volume(save(tmp_path / "ct.nii", hu(), xyzt_units=1))


# Row 5: shear


def test_a_slight_shear_is_projected_and_noted_and_a_large_one_refused(tmp_path: Path) -> None:
    slight, large = AFFINE_IJK.copy(), AFFINE_IJK.copy()
    slight[0, 2], large[0, 2] = 3 * 1.5e-4, 3 * 1e-3
    notes: list[str] = []
    volume = read_volume(save(tmp_path / "slight.nii", hu(), slight), notes=notes)
    directions = volume.grid.direction
    np.testing.assert_allclose(directions.T @ directions, np.eye(3), atol=1e-12)
    assert any("nearest rotation" in note for note in notes)
    with pytest.raises(DataFault, match=r"large\.nii: the axes are sheared"):
        read_volume(save(tmp_path / "large.nii", hu(), large))


# Row 12: further axes and colour


def test_a_trailing_axis_of_one_is_removed_and_a_time_series_refused(tmp_path: Path) -> None:
    notes: list[str] = []
    volume = read_volume(save(tmp_path / "single.nii.gz", hu((6, 5, 4, 1, 1))), notes=notes)
    assert volume.shape == (4, 5, 6)
    assert notes == ["single.nii.gz: 2 further axes of length 1 removed"]
    with pytest.raises(DataFault, match=r"time\.nii\.gz: has shape \(6, 5, 4, 3\): a time series"):
        read_volume(save(tmp_path / "time.nii.gz", hu((6, 5, 4, 3))))
    with pytest.raises(DataFault, match=r"shape \(6, 5\), a volume of three axes"):
        read_volume(save(tmp_path / "slice.nii.gz", hu((6, 5))))


def test_colour_and_complex_voxels_are_refused(tmp_path: Path) -> None:
    rgb = np.zeros((3, 3, 3), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    with pytest.raises(DataFault, match="RGB colour"):
        read_volume(save(tmp_path / "rgb.nii", rgb))
    with pytest.raises(DataFault, match="complex"):
        read_volume(save(tmp_path / "complex.nii", np.zeros((3, 3, 3), np.complex64)))


# Row 13: types


@pytest.mark.parametrize("dtype", [">i2", ">f4", ">f8", "<f8", "<i4", "<u2"])
def test_foreign_byte_orders_and_wide_types_become_native_float32(tmp_path: Path, dtype: str) -> None:
    array = np.abs(hu()) if dtype == "<u2" else hu()
    image = nib.Nifti1Image(
        array.astype(dtype), AFFINE_IJK, nib.Nifti1Header(endianness=dtype[0]), dtype=np.dtype(dtype)
    )
    image.set_sform(AFFINE_IJK, code=1)
    nib.save(image, tmp_path / "ct.nii")
    assert (tmp_path / "ct.nii").read_bytes()[:4] == (348).to_bytes(4, "big" if dtype[0] == ">" else "little")
    volume = read_volume(tmp_path / "ct.nii")
    assert volume.array.dtype.isnative
    np.testing.assert_array_equal(volume.array, array.T)


@pytest.mark.parametrize(("highest", "dtype"), [(255, np.uint8), (256, np.int16), (32767, np.int16), (40000, np.int32)])
def test_labels_take_the_narrowest_type_that_holds_them(tmp_path: Path, highest: int, dtype: type) -> None:
    labels = np.zeros((3, 4, 5), np.float64)
    labels[1, 2, 3] = highest
    read = read_label_map(save(tmp_path / "labels.nii.gz", labels)).array
    assert read.dtype == dtype
    assert read[3, 2, 1] == highest


def test_float_labels_are_rounded_within_a_thousandth_and_refused_beyond(tmp_path: Path) -> None:
    labels = np.zeros((3, 4, 5), np.float32)
    labels[0, 0, 0], labels[1, 1, 1] = 0.99999, 2.0005
    notes: list[str] = []
    read = read_label_map(save(tmp_path / "labels.nii", labels), notes=notes).array
    assert (read[0, 0, 0], read[1, 1, 1]) == (1, 2)
    assert "rounded" in notes[0]
    labels[2, 2, 2] = 0.5
    with pytest.raises(DataFault, match=r"labels\.nii: labels are integers, this holds 0\.5"):
        read_label_map(save(tmp_path / "labels.nii", labels))


def test_negative_and_missing_labels_are_refused(tmp_path: Path) -> None:
    labels = np.zeros((3, 4, 5), np.int16)
    labels[0, 0, 0] = -1
    with pytest.raises(DataFault, match="negative label -1"):
        read_label_map(save(tmp_path / "negative.nii", labels))
    with pytest.raises(DataFault, match="NaN"):
        read_label_map(save(tmp_path / "nan.nii", np.full((3, 4, 5), np.nan, np.float32)))


def test_a_mask_holds_one_value_beside_zero(tmp_path: Path) -> None:
    mask = np.zeros((3, 4, 5), np.uint8)
    mask[1] = 255
    notes: list[str] = []
    read = read_mask(save(tmp_path / "mask.nii.gz", mask), notes=notes).array
    np.testing.assert_array_equal(read, (mask == 255).T)
    assert "value is 255, taken as 1" in notes[0]
    mask[2, 2, 2] = 7
    with pytest.raises(
        DataFault, match=r"two\.nii: a mask holds 0 and one other value, this holds 2 labels: \[7, 255\]"
    ):
        read_mask(save(tmp_path / "two.nii", mask))
    assert not read_mask(save(tmp_path / "empty.nii", np.zeros((3, 4, 5), np.uint8))).array.any()


def test_label_maps_and_masks_written_come_back(tmp_path: Path) -> None:
    labels = np.random.default_rng(0).integers(0, 300, size=(4, 5, 6)).astype(np.int64)
    write_label_map(tmp_path / "labels.nii.gz", LabelMap(labels, np.eye(4)))
    np.testing.assert_array_equal(read_label_map(tmp_path / "labels.nii.gz").array, labels)
    write_mask(tmp_path / "mask.nii.gz", labels > 150, np.eye(4))
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.nii.gz").array, labels > 150)


# Row 14: NaN


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_refused_by_place_or_filled_on_request(tmp_path: Path, value: float) -> None:
    array = hu(dtype=np.float32)
    array[3, 2, 1] = value
    path = save(tmp_path / "ct.nii.gz", array)
    with pytest.raises(DataFault, match=r"1 voxels are NaN or infinite, the first at \(d, h, w\) = \(1, 2, 3\)"):
        read_volume(path)
    notes: list[str] = []
    assert read_volume(path, nonfinite_hu=-1024, notes=notes).array[1, 2, 3] == -1024
    assert "replaced by -1024 HU" in notes[0]


# Row 15: damaged files


@pytest.mark.parametrize("share", [0.01, 0.3, 0.9, 0.999])
@pytest.mark.parametrize("name", ["ct.nii.gz", "ct.nii"])
def test_a_truncated_file_is_refused_by_name(tmp_path: Path, name: str, share: float) -> None:
    path = save(tmp_path / name, hu((40, 40, 20)))
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataFault, match=rf"{name}: .*(truncated|not a NIfTI)"):
        read_volume(path)


def test_a_wrong_checksum_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "ct.nii.gz", hu())
    content = bytearray(path.read_bytes())
    content[-6] ^= 1  # in the CRC32 of the trailer: every voxel still decompresses
    path.write_bytes(content)
    with pytest.raises(DataFault, match=r"ct\.nii\.gz: the compressed file is truncated or damaged .*CRC"):
        read_volume(path)


def test_an_empty_a_missing_and_a_foreign_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.nii.gz").touch()
    (tmp_path / "text.nii").write_text("no image " * 100)
    for name, reason in (
        ("empty.nii.gz", r"0 bytes"), ("gone.nii.gz", "No such file"), ("text.nii", "not a NIfTI file"),
    ):  # fmt: skip
        with pytest.raises(DataFault, match=f"{name}: .*{reason}"):
            read_volume(tmp_path / name)
    with pytest.raises(DataFault, match="cannot be read: Is a directory"):
        read_volume(tmp_path)


def test_a_name_that_lies_about_compression_is_read_and_noted(tmp_path: Path) -> None:
    content = save(tmp_path / "ct.nii", hu()).read_bytes()
    (tmp_path / "plain.nii.gz").write_bytes(content)
    (tmp_path / "packed.nii").write_bytes(gzip.compress(content))
    notes: list[str] = []
    for name in ("plain.nii.gz", "packed.nii"):
        np.testing.assert_array_equal(read_volume(tmp_path / name, notes=notes).array, hu().T)
    assert notes == [
        "plain.nii.gz: not compressed, although named .nii.gz",
        "packed.nii: compressed, although named .nii",
    ]


# Row 24: names and folders


def test_blanks_umlauts_links_and_read_only_folders_are_no_obstacle(tmp_path: Path) -> None:
    folder = tmp_path / "Größe und Ø"
    folder.mkdir()
    save(folder / "ct 1.nii.gz", hu())
    (tmp_path / "link.nii.gz").symlink_to(folder / "ct 1.nii.gz")
    folder.chmod(0o555)
    try:
        for path in (folder / "ct 1.nii.gz", tmp_path / "link.nii.gz"):
            np.testing.assert_array_equal(read_volume(path).array, hu().T)
        assert [path.name for path in folder.iterdir()] == ["ct 1.nii.gz"]
    finally:
        folder.chmod(0o755)


def test_nifti_2_is_read(tmp_path: Path) -> None:
    image = nib.Nifti2Image(hu(), AFFINE_IJK)
    image.set_sform(AFFINE_IJK, code=1)
    nib.save(image, tmp_path / "ct.nii.gz")
    np.testing.assert_array_equal(read_volume(tmp_path / "ct.nii.gz").array, hu().T)


def test_published_files_are_read(real_data: Path) -> None:
    ct = read_volume(real_data / "ct_organs" / "example_ct_sm.nii.gz")
    labels = read_label_map(real_data / "ct_organs" / "example_seg.nii.gz")
    assert ct.shape == labels.shape == (30, 101, 122)
    np.testing.assert_allclose(ct.spacing_mm, 3.0)
    assert len(np.unique(labels.array)) == 41 + 1  # organs and background
