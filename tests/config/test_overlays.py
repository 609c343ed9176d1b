from types import SimpleNamespace

import pytest

from medpipe.config.errors import ConfigError, Problem
from medpipe.config.overlays import merge
from medpipe.config.reader import read_text
from medpipe.config.tree import node_at, plain

KINDS = ("masked_pretraining", "segmentation_training", "report")


def value(workflow: str, *overlays: str, at: str) -> object:
    tree = merge(
        read_text(workflow, "w.yaml"), [read_text(o, f"o{i}.yaml") for i, o in enumerate(overlays)], kinds=KINDS
    )
    node = node_at(tree, tuple(at.split(".")))
    return None if node is None else plain(node)


def refusal(workflow: str, *overlays: str) -> str:
    with pytest.raises(ConfigError) as caught:
        value(workflow, *overlays, at="stages")
    return str(caught.value)


TWO = """
defaults: {segmentation_training: {steps: 1, lr: 1}}
stages:
  a: {stage: segmentation_training, steps: 2}
  b: {stage: report, steps: 7}
"""


def test_defaults_of_the_workflow_lie_under_its_stages() -> None:
    assert value(TWO, at="stages.a") == {"stage": "segmentation_training", "steps": 2, "lr": 1}


def test_defaults_touch_their_own_kind_of_stage_alone() -> None:
    assert value(TWO, at="stages.b") == {"stage": "report", "steps": 7}


def test_the_block_itself_is_gone_after_merging() -> None:
    assert value(TWO, "defaults: {report: {steps: 8}}", at="defaults") is None


def test_defaults_of_an_overlay_win_over_the_workflows_own_values() -> None:
    assert value(TWO, "defaults: {segmentation_training: {steps: 3}}", at="stages.a.steps") == 3


def test_stages_named_in_an_overlay_win_over_its_defaults() -> None:
    overlay = "{defaults: {segmentation_training: {steps: 3, lr: 3}}, stages: {a: {steps: 4}}}"
    assert value(TWO, overlay, at="stages.a") == {"stage": "segmentation_training", "steps": 4, "lr": 3}


def test_a_later_overlay_wins_also_by_its_defaults() -> None:
    named, by_kind = "stages: {a: {steps: 4}}", "defaults: {segmentation_training: {steps: 3}}"
    assert value(TWO, named, by_kind, at="stages.a.steps") == 3
    assert value(TWO, by_kind, named, at="stages.a.steps") == 4


def test_a_value_by_kind_says_so_in_its_origin() -> None:
    tree = merge(read_text(TWO, "w.yaml"), [], kinds=KINDS)
    node = node_at(tree, ("stages", "a", "lr"))
    assert node is not None
    assert str(node.origin) == "w.yaml:2:50 (default of segmentation_training)"


def test_a_kind_that_the_workflow_does_not_use_is_fine_and_one_that_does_not_exist_is_not() -> None:
    assert value(TWO, "defaults: {masked_pretraining: {x: 1}}", at="stages.a.steps") == 2
    assert refusal(TWO, "defaults: {segmentation_trainin: {x: 1}}") == (
        "o0.yaml:1:12: unknown kind of stage 'segmentation_trainin'; did you mean 'segmentation_training'?"
    )


def test_an_unknown_kind_in_a_stage_is_refused_where_it_stands() -> None:
    assert refusal("stages: {a: {stage: reprot}}").startswith(
        "w.yaml:1:21: unknown kind of stage 'reprot'; did you mean 'report'"
    )


@pytest.mark.parametrize("block", ["[1]", "{report: 3}", "{report: {stage: report}}"])
def test_a_malformed_defaults_block_is_refused(block: str) -> None:
    assert refusal(f"{{defaults: {block}, stages: {{}}}}").startswith("w.yaml:1:")


def test_the_callers_check_of_defaults_is_asked_also_for_kinds_not_used() -> None:
    def check(kind: str, values: object) -> list[Problem]:
        return [Problem("o.yaml", 1, 1, f"checked {kind}")]

    with pytest.raises(ConfigError, match="checked masked_pretraining"):
        merge(read_text(TWO, "w"), [read_text("defaults: {masked_pretraining: {x: 1}}", "o")], check_defaults=check)


def test_an_overlay_cannot_name_a_stage_that_is_not_there() -> None:
    assert refusal("stages: {brachytherapy: {stage: report}}", "stages: {brachyterapy: {steps: 1}}") == (
        "o0.yaml:1:10: the workflow has no stage 'brachyterapy'; did you mean 'brachytherapy'?"
    )


def test_an_overlay_may_bring_a_whole_stage_of_its_own() -> None:
    overlay = "{defaults: {report: {steps: 9}}, stages: {c: {stage: report, x: 1}}}"
    assert value(TWO, overlay, at="stages.c") == {"stage": "report", "steps": 9, "x": 1}


def test_a_stage_of_another_kind_replaces_the_whole_stage_and_gets_the_defaults_of_its_new_kind() -> None:
    overlay = "{defaults: {report: {lr: 9}, segmentation_training: {lr: 8}}, stages: {a: {stage: report}}}"
    assert value(TWO, overlay, at="stages.a") == {"stage": "report", "lr": 9}


def test_the_default_of_one_backbone_leaves_a_stage_with_another_alone() -> None:
    workflow = """
stages:
  a: {stage: segmentation_training, backbone: {name: stunet, size: base}}
  b: {stage: segmentation_training, backbone: {name: swin_unetr, feature_size: 24}}
  c: {stage: segmentation_training}
"""
    overlay = "defaults: {segmentation_training: {backbone: {name: stunet, size: tiny}}}"
    assert value(workflow, overlay, at="stages.a.backbone") == {"name": "stunet", "size": "tiny"}
    assert value(workflow, overlay, at="stages.b.backbone") == {"name": "swin_unetr", "feature_size": 24}
    assert value(workflow, overlay, at="stages.c.backbone") == {"name": "stunet", "size": "tiny"}


def test_a_stage_that_chooses_another_backbone_than_the_workflows_default_keeps_no_option_of_it() -> None:
    workflow = """
defaults: {segmentation_training: {backbone: {name: stunet, size: base}}}
stages: {a: {stage: segmentation_training, backbone: {name: dynunet}}}
"""
    assert value(workflow, at="stages.a.backbone") == {"name": "dynunet"}


def test_top_level_keys_are_merged_even_where_they_have_names() -> None:
    assert value("{name: x, data: {a: 1, b: 2}, stages: {}}", "{name: y, data: {b: 3}}", at="data") == {"a": 1, "b": 3}


def test_keys_keep_the_order_of_the_workflow(toy: SimpleNamespace) -> None:
    tree = merge(read_text(toy.text, "w"), [read_text("{stages: {organs: {folds: 3}}, seed: 4, extra: 1}", "o")])
    assert list(tree.entries) == ["workflow", "seed", "stages", "extra"]
    assert list(plain(tree)["stages"]["organs"])[:2] == ["stage", "backbone"]
