import pytest

from medpipe.engine.workflow import load_workflow
from medpipe.stages.segmentation_training import Member, SegmentationTraining


def stage(*overrides: str) -> SegmentationTraining:
    return load_workflow("gynecologic_brachytherapy", ["demo"], overrides).values.stages["brachytherapy"]


def test_one_network_lies_in_the_stage_s_own_folder() -> None:
    assert stage().members() == [Member(0, 1.0, ".")]


def test_folds_and_shares_each_get_a_folder() -> None:
    members = stage("brachytherapy.folds={count: 3, run: [0, 2]}", "brachytherapy.labelled_share=[0.1, 1.0]").members()
    assert [member.folder for member in members] == [
        "share_010/fold_0",
        "share_010/fold_2",
        "share_100/fold_0",
        "share_100/fold_2",
    ]


def test_a_structure_named_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="named twice"):
        stage("brachytherapy.structures=[bladder, bladder]")


def test_a_share_over_one_is_refused() -> None:
    with pytest.raises(ValueError, match="labelled_share"):
        stage("brachytherapy.labelled_share=1.5")
