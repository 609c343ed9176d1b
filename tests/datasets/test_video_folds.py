"""The official lists and what is refused in one's own."""

from pathlib import Path

import pytest

from medpipe.datasets.video_folds import check_videos_are_there, find_folds_file, read_folds
from medpipe.geometry.faults import DataFault


def test_four_folds_leave_one_study_out() -> None:
    folds = read_folds(find_folds_file("real_colon_4_fold"))
    studies = {
        fold: [sorted({video[:3] for video in part}) for part in (f.train, f.valid, f.test)]
        for fold, f in folds.items()
    }
    assert studies == {
        1: [["001", "002"], ["003"], ["004"]],
        2: [["001", "004"], ["002"], ["003"]],
        3: [["003", "004"], ["001"], ["002"]],
        4: [["002", "003"], ["004"], ["001"]],
    }
    assert all((len(f.train), len(f.valid), len(f.test)) == (30, 15, 15) for f in folds.values())


def test_five_folds_mix_the_studies_and_test_each_video_once() -> None:
    folds = read_folds(find_folds_file("real_colon_5_fold"))
    assert all((len(f.train), len(f.valid), len(f.test)) == (44, 4, 12) for f in folds.values())
    tested = [video for fold in folds.values() for video in fold.test]
    assert len(tested) == len(set(tested)) == 60
    assert all({video[:3] for video in fold.valid} == {"001", "002", "003", "004"} for fold in folds.values())


@pytest.mark.parametrize(("name", "file"), [("real_colon_4_fold", "4_fold"), ("real_colon_5_fold", "5_fold")])
def test_the_lists_are_the_published_ones(real_data: Path, name: str, file: str) -> None:
    folder = real_data / "real_colon" / "RC_lists" / file
    folds = read_folds(find_folds_file(name))
    if file == "5_fold":
        for number, fold in folds.items():
            for part, videos in (("train", fold.train), ("valid", fold.valid), ("test", fold.test)):
                assert list(videos) == (folder / f"fold{number}_{part}.txt").read_text().split()
    else:
        lists = [set((folder / f"{number}.txt").read_text().split()) for number in (1, 2, 3, 4)]
        assert all(set(fold.test) in lists and set(fold.valid) in lists for fold in folds.values())


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["1,train,a", "1,test,a"], "row 2: video a stands twice in fold 1"),
        (["1,test,a", "2,test,a"], "row 2: video a is tested in fold 1 and in fold 2"),
        (["1,dev,a"], "part 'dev'"),
        ([], "no fold in it"),
    ],
)
def test_lists_that_leak_are_refused(tmp_path: Path, rows: list[str], message: str) -> None:
    path = tmp_path / "folds.csv"
    path.write_text("\n".join(["fold,part,video_id", *rows]) + "\n")
    with pytest.raises(DataFault, match=message):
        read_folds(path)


def test_an_unknown_list_and_missing_videos_are_named() -> None:
    with pytest.raises(ValueError, match="did you mean 'real_colon_4_fold'"):
        find_folds_file("real_colon_4_folds")
    path = find_folds_file("real_colon_5_fold")
    with pytest.raises(DataFault, match=r"59 videos that are not in the data \(001-002"):
        check_videos_are_there(path, read_folds(path).values(), ["001-001"])
