from types import SimpleNamespace

from medpipe.config.models import known_keys, models_at, tag_values
from medpipe.config.reader import read_text


def names(model: object, text: str, *path: str | int) -> list[str]:
    return [found.__name__ for found in models_at(model, read_text(text, "f"), path)]


def test_the_class_at_a_place_is_found_through_dictionaries_unions_and_options(toy: SimpleNamespace) -> None:
    assert names(toy.Workflow, toy.text) == ["Workflow"]
    assert names(toy.Workflow, toy.text, "stages", "organs") == ["Segmentation"]
    assert names(toy.Workflow, toy.text, "stages", "organs", "backbone") == ["Stunet"]
    assert names(toy.Workflow, toy.text, "stages", "organs", "start_from") == ["StageRef"]


def test_a_tag_that_names_nothing_leaves_all_variants_open(toy: SimpleNamespace) -> None:
    text = toy.text.replace("stage: segmentation_training", "stage: x")
    assert names(toy.Workflow, text, "stages", "organs") == ["Pretraining", "Segmentation", "Report"]


def test_a_place_that_holds_no_class_has_none(toy: SimpleNamespace) -> None:
    assert names(toy.Workflow, toy.text, "seed") == []
    assert names(toy.Workflow, toy.text, "nothing", "there") == []


def test_classes_within_lists_are_found(toy: SimpleNamespace) -> None:
    assert names(tuple[int, toy.Stunet], "a: [1, {name: stunet}]", "a") == []
    assert names(dict[str, list[toy.Stunet]], "a: [{name: stunet}]", "a", 0) == ["Stunet"]
    assert names(dict[str, tuple[int, toy.Stunet]], "a: [1, {name: stunet}]", "a", 1) == ["Stunet"]
    assert names(dict[str, tuple[toy.Stunet, ...]], "a: [{}, {name: stunet}]", "a", 1) == ["Stunet"]


def test_keys_are_told_by_their_alias_and_tags_by_their_values(toy: SimpleNamespace) -> None:
    (start_from,) = models_at(toy.Workflow, read_text(toy.text, "f"), ("stages", "organs", "start_from"))
    assert known_keys([start_from]) == ["from"]
    assert tag_values([toy.Stunet], "name") == ["stunet"]
