from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Literal

import pytest
from pydantic import AfterValidator, Field, TypeAdapter

from medpipe.config.base import Config
from medpipe.config.errors import ConfigError
from medpipe.config.interpolation import interpolate
from medpipe.config.overrides import apply_overrides
from medpipe.config.reader import read_text
from medpipe.config.validation import partial_problems, validate


def refusal(model: object, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        validate(model, read_text(text, "w.yaml"))  # type: ignore[arg-type]
    return str(caught.value)


def test_a_right_workflow_becomes_frozen_typed_values(toy: SimpleNamespace) -> None:
    workflow = validate(toy.Workflow, read_text(toy.text, "w.yaml"))
    organs = workflow.stages["organs"]
    assert organs.structures == ("bladder", "rectum")
    assert organs.training.learning_rate == 1e-2
    assert organs.start_from.from_ == "pretrain"
    with pytest.raises(ValueError, match="frozen"):
        workflow.seed = 4


def test_strict_means_that_only_json_differences_are_bridged() -> None:
    class Values(Config):
        number: float
        path: Path
        pair: tuple[int, int]

    values = validate(Values, read_text("{number: 1, path: a/b, pair: [1, 2]}", "f"))
    assert values == Values(number=1.0, path=Path("a/b"), pair=(1, 2))
    for wrong in (
        "{number: '1', path: a, pair: [1, 2]}",
        "{number: 1, path: a, pair: [1.0, 2]}",
        "{number: 1, path: 3, pair: [1, 2]}",
    ):
        refusal(Values, wrong)


def test_an_unknown_key_is_refused_at_the_key_with_a_suggestion(toy: SimpleNamespace) -> None:
    assert refusal(toy.Patches, "size: [1, 2, 3]\nforegroud_fraction: 0.5") == (
        "w.yaml:2:1: unknown key 'foregroud_fraction'; did you mean 'foreground_fraction'?"
    )


def test_a_key_like_no_other_is_refused_with_the_list(toy: SimpleNamespace) -> None:
    assert refusal(toy.Patches, "zzz: 1") == "w.yaml:1:1: unknown key 'zzz'; known keys: foreground_fraction, size"


def test_inside_unions_the_known_keys_are_those_of_the_variant_chosen(toy: SimpleNamespace) -> None:
    text = toy.text.replace(
        "organs:\n    stage: segmentation_training\n    backbone: {name: stunet, size: base}",
        "organs:\n    stage: segmentation_training\n    backbone: {name: stunet, feature_size: 3}",
    )
    assert refusal(toy.Workflow, text) == "w.yaml:9:30: unknown key 'feature_size'; known keys: base_width, name, size"
    message = refusal(toy.Workflow, toy.text.replace("structures:", "structuers:"))
    assert message == "w.yaml:11:5: unknown key 'structuers'; did you mean 'structures'?"


def test_the_name_of_a_field_in_python_is_no_key(toy: SimpleNamespace) -> None:
    message = refusal(toy.Workflow, toy.text.replace("{from: pretrain}", "{from_: pretrain}"))
    assert "w.yaml:10:17: 'start_from' lacks the key 'from'" in message
    assert "w.yaml:10:18: unknown key 'from_'; did you mean 'from'?" in message


def test_a_missing_key_is_named_at_its_mapping(toy: SimpleNamespace) -> None:
    assert refusal(toy.Training, "learning_rate: 1e-3") == "w.yaml:1:1: lacks the key 'num_steps'"
    message = refusal(toy.Segmentation, "stage: segmentation_training\ntraining: {learning_rate: 1e-3}")
    assert message == "w.yaml:2:11: 'training' lacks the key 'num_steps'"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{num_steps: abc}", "1:13: 'num_steps' must be a whole number, got 'abc'"),
        ("{num_steps: 1e3}", "1:13: 'num_steps' must be a whole number, got 1e3"),
        ("{num_steps: 1_000}", "1:13: 'num_steps' must be a whole number, got '1_000'; write 1000"),
        ("{num_steps: '5'}", "1:13: 'num_steps' must be a whole number, got '5'; write it without quotes"),
        ("{num_steps: true}", "1:13: 'num_steps' must be a whole number, got true"),
        ("{num_steps: }", "1:12: 'num_steps' must be a whole number, got null"),
        ("{num_steps: [1]}", "1:13: 'num_steps' must be a whole number, got a list of 1"),
        ("{num_steps: {a: 1}}", "1:13: 'num_steps' must be a whole number, got a mapping"),
        ("{num_steps: 0}", "1:13: 'num_steps' must be more than 0, got 0"),
        (
            "{num_steps: 1, mixed_precision: yes}",
            "1:33: 'mixed_precision' must be true or false, got 'yes'; write true or false",
        ),
        (
            "{num_steps: 1, mixed_precision: True}",
            "1:33: 'mixed_precision' must be true or false, got 'True'; write true or",
        ),
        ("{num_steps: 1, mixed_precision: 1}", "1:33: 'mixed_precision' must be true or false, got 1"),
        ("{num_steps: 1, learning_rate: inf}", "1:31: 'learning_rate' must be a number, got 'inf'"),
        ("{num_steps: 1, betas: [1, x]}", "1:27: 'betas.1' must be a number, got 'x'"),
        ("{num_steps: 1, betas: 1}", "1:23: 'betas' must be a list, got 1"),
    ],
)
def test_a_wrong_value_is_told_in_plain_words(toy: SimpleNamespace, text: str, message: str) -> None:
    assert refusal(toy.Training, text).startswith(f"w.yaml:{message}")


@pytest.mark.parametrize(("written", "got"), [("[1, 2]", 2), ("[1]", 1), ("[]", 0), ("[1, 2, 3, 4]", 4)])
def test_a_list_of_the_wrong_length_is_told_once(toy: SimpleNamespace, written: str, got: int) -> None:
    assert refusal(toy.Patches, f"size: {written}") == f"w.yaml:1:7: 'size' must have 3 entries, got {got}"


def test_text_written_as_a_number_is_told_to_be_quoted(toy: SimpleNamespace) -> None:
    message = refusal(toy.Workflow, toy.text.replace("workflow: toy", "workflow: 12"))
    assert message == "w.yaml:1:11: 'workflow' must be text, got 12; put it in quotes: '12'"


def test_bounds_are_told_both_ways(toy: SimpleNamespace) -> None:
    assert "must be at least 0.0, got -1" in refusal(toy.Patches, "foreground_fraction: -1")
    assert "must be at most 1.0, got 1.5" in refusal(toy.Patches, "foreground_fraction: 1.5")


def test_a_choice_that_does_not_exist_is_refused_with_the_list_and_a_suggestion(toy: SimpleNamespace) -> None:
    message = refusal(toy.Stunet, "{name: stunet, size: smal}")
    assert message == "w.yaml:1:22: 'size' must be one of tiny, small, base; got 'smal'; did you mean 'small'?"


def test_an_unknown_stage_or_backbone_is_refused_at_its_name(toy: SimpleNamespace) -> None:
    message = refusal(toy.Workflow, toy.text.replace("segmentation_training", "segmentation_trainig"))
    assert message.startswith(
        "w.yaml:8:12: 'organs.stage' must be one of masked_pretraining, segmentation_training, report;"
    )
    assert message.endswith("got 'segmentation_trainig'; did you mean 'segmentation_training'?")
    message = refusal(toy.Workflow, toy.text.replace("name: stunet", "name: stunett", 1))
    assert (
        "w.yaml:6:22: 'backbone.name' must be one of stunet, swin_unetr; got 'stunett'; did you mean 'stunet'?"
        in message
    )


def test_a_union_without_its_tag_names_the_tag_and_the_choices(toy: SimpleNamespace) -> None:
    message = refusal(toy.Workflow, toy.text.replace("{name: stunet, size: base}", "{size: base}", 1))
    assert message == "w.yaml:6:15: 'backbone' lacks the key 'name', one of stunet, swin_unetr"
    message = refusal(toy.Workflow, toy.text.replace("{name: stunet, size: base}", "stunet", 1))
    assert message.startswith("w.yaml:6:15: 'backbone' must be a mapping")
    assert message.endswith("got 'stunet'")


def test_the_forms_of_an_untagged_union_are_told_in_one_problem(toy: SimpleNamespace) -> None:
    message = refusal(toy.Segmentation, "{stage: segmentation_training, training: {num_steps: 1}, folds: all}")
    assert message == "w.yaml:1:65: 'folds' must be a whole number, got 'all'; or 'folds' must be a list, got 'all'"


def test_a_validators_own_words_are_kept_and_stand_at_the_mapping(toy: SimpleNamespace) -> None:
    message = refusal(
        toy.Segmentation, "stage: segmentation_training\ntraining: {num_steps: 1}\nstructures: [background]"
    )
    assert message == "w.yaml:1:1: 'background' is not a structure; leave it out"


def test_a_field_validators_words_stand_at_the_value() -> None:
    def odd(value: int) -> int:
        if value % 2 == 0:
            raise ValueError(f"kernel size {value} is even; take an odd one")
        return value

    class Kernel(Config):
        size: Annotated[int, AfterValidator(odd)]

    assert refusal(Kernel, "size: 4") == "w.yaml:1:7: kernel size 4 is even; take an odd one"


def test_a_stage_with_a_key_named_like_its_kind_is_still_located(toy: SimpleNamespace) -> None:
    message = refusal(
        toy.Workflow,
        "workflow: w\nstages:\n  r:\n    stage: report\n    report: htm\n    titles: {report: 3}\n    repotr: 1\n",
    )
    assert "w.yaml:5:13: 'report' must be one of html, text; got 'htm'; did you mean 'html'?" in message
    assert "w.yaml:6:22: 'report' must be text, got 3" in message
    assert "w.yaml:7:5: unknown key 'repotr'; did you mean 'report'?" in message


def test_all_faults_are_told_at_once_in_the_order_of_the_file(toy: SimpleNamespace) -> None:
    text = "workflow: 1\nseed: x\nextra: 1\nstages:\n  a: {stage: report, report: pdf, b: 1}\n  c: 3\n"
    lines = [line.split(":")[1] for line in refusal(toy.Workflow, text).splitlines()]
    assert lines == ["1", "2", "3", "5", "5", "6"]


def test_values_of_the_command_line_and_of_references_are_named(toy: SimpleNamespace) -> None:
    tree = apply_overrides(read_text(toy.text, "w.yaml"), ["organs.training.num_step=5", "seed=${workflow}"])
    with pytest.raises(ConfigError) as caught:
        validate(toy.Workflow, interpolate(tree))
    assert set(str(caught.value).splitlines()) == {
        "command line: organs.training.num_step=5: unknown key 'num_step'; did you mean 'num_steps'?",
        "command line: seed=${workflow}: 'seed' must be a whole number, got 'toy' (${workflow}, from w.yaml:1:11)",
    }


def test_an_adapter_is_as_good_as_a_class(toy: SimpleNamespace) -> None:
    class Small(Config):
        kind: Literal["small"]
        num: int = Field(ge=1)

    adapter: TypeAdapter[dict[str, Small]] = TypeAdapter(dict[str, Small])
    assert validate(adapter, read_text("a: {kind: small, num: 1}", "w"))["a"].num == 1
    assert refusal(adapter, "a: {kind: small, nun: 1, num: 1}") == "w.yaml:1:18: unknown key 'nun'; did you mean 'num'?"


def test_part_of_a_config_is_checked_without_what_is_missing(toy: SimpleNamespace) -> None:
    text = "{training: {num_stepz: 3, learning_rate: ['x'], betas: ['${a}', x]}, backbone: {size: tiny}}"
    messages = [str(problem) for problem in partial_problems(toy.Segmentation, read_text(text, "o"))]
    assert messages == [
        "o:1:13: unknown key 'num_stepz'; did you mean 'num_steps'?",
        "o:1:42: 'learning_rate' must be a number, got a list of 1",
        "o:1:65: 'betas.1' must be a number, got 'x'",
    ]
    assert partial_problems(toy.Segmentation, read_text("patches: {foreground_fraction: 0.5}", "o")) == []
