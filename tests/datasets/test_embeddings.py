"""The file of a video's embeddings: the same bytes for the same content, and what is refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medpipe.datasets.embeddings import (
    EmbeddedVideo,
    EmbeddingIdentity,
    check_same_encoder,
    read_embeddings,
    write_embeddings,
)
from medpipe.geometry.faults import DataFault

IDENTITY = EmbeddingIdentity("resnet50", "abc", "224", 5.0, 4)


def video(length: int = 5, **changes: object) -> EmbeddedVideo:
    values = {"times_s": np.arange(length) * 0.2, "is_valid": np.ones(length, dtype=bool)}
    embeddings = np.random.default_rng(0).random((length, 4)).astype(np.float16)
    return EmbeddedVideo("001-001", IDENTITY, **{**values, "embeddings": embeddings, **changes})  # type: ignore[arg-type]


def test_what_is_written_is_read_and_its_bytes_are_always_the_same(tmp_path: Path) -> None:
    first = video(facts={"fps": 25.0, "missing": 2})
    write_embeddings(tmp_path / "a.safetensors", first)
    write_embeddings(tmp_path / "b.safetensors", video(facts={"missing": 2, "fps": 25.0}))
    again = read_embeddings(tmp_path / "a.safetensors")
    np.testing.assert_array_equal(again.embeddings, first.embeddings)
    assert again.identity == IDENTITY
    assert again.is_valid.dtype == bool
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_none_are_refused_with_file_and_slot(tmp_path: Path, bad: float) -> None:
    broken = video()
    broken.embeddings[3, 1] = bad
    write_embeddings(tmp_path / "a.safetensors", broken)
    with pytest.raises(DataFault, match=r"a\.safetensors: slot 3 \(0\.6 s\): the embedding holds NaN"):
        read_embeddings(tmp_path / "a.safetensors")


def test_a_wrong_width_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"video 001-001: embeddings \(5, 3\).* 4 components"):
        video(embeddings=np.zeros((5, 3), dtype=np.float16))


def test_no_frame_a_cut_file_and_a_stranger_are_refused(tmp_path: Path) -> None:
    write_embeddings(tmp_path / "empty.safetensors", video(0))
    with pytest.raises(DataFault, match="a video without any frame"):
        read_embeddings(tmp_path / "empty.safetensors")
    write_embeddings(tmp_path / "cut.safetensors", video())
    whole = (tmp_path / "cut.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[:-9])
    with pytest.raises(DataFault, match="or damaged"):
        read_embeddings(tmp_path / "cut.safetensors")
    with pytest.raises(DataFault, match="no such file; run the stage frame_embedding"):
        read_embeddings(tmp_path / "none.safetensors")


def test_embeddings_of_two_encoders_are_not_mixed() -> None:
    other = replace(IDENTITY, weights="def")
    with pytest.raises(DataFault, match=r"b: other embeddings than a has: weights 'abc' and 'def'"):
        check_same_encoder([(Path("a"), IDENTITY), (Path("b"), other)])
    with pytest.raises(DataFault, match="a: other embeddings than the network was trained on"):
        check_same_encoder([(Path("a"), IDENTITY)], other)
