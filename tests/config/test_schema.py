from types import SimpleNamespace
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from pydantic import TypeAdapter

from medpipe.config.reader import read_text
from medpipe.config.schema import schema_of
from medpipe.config.tree import plain


@pytest.fixture
def schema(toy: SimpleNamespace) -> dict[str, Any]:
    return schema_of(toy.Workflow, kinds=toy.kinds)


def faults(schema: dict[str, Any], text: str) -> list[str]:
    return [error.message for error in Draft202012Validator(schema).iter_errors(plain(read_text(text, "w")))]


def test_it_is_a_valid_schema_of_the_2020_dialect(schema: dict[str, Any], toy: SimpleNamespace) -> None:
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    Draft202012Validator.check_schema(schema_of(TypeAdapter(dict[str, toy.Stunet])))


def test_it_accepts_the_workflow(schema: dict[str, Any], toy: SimpleNamespace) -> None:
    assert faults(schema, toy.text) == []


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("seed: 3", "sead: 3"),
        ("seed: 3", "seed: x"),
        ("num_steps: 1000", "num_stepz: 1000"),
        ("name: stunet", "name: stunett"),
        ("size: base", "size: huge"),
        ("stage: segmentation_training", "stage: segmentation"),
        ("{from: pretrain}", "{from_: pretrain}"),
    ],
)
def test_it_refuses_what_the_door_refuses(schema: dict[str, Any], toy: SimpleNamespace, right: str, wrong: str) -> None:
    assert faults(schema, toy.text.replace(right, wrong))


@pytest.mark.parametrize(
    ("value", "reference"),
    [
        ("seed: 3", "seed: '${env:SEED,0}'"),
        ("size: base", "size: '${env:SIZE,base}'"),
        ("[bladder, rectum]", "'${stages.x.structures}'"),
        ("{name: stunet, size: base}", "'${stages.x.backbone}'"),
        ("num_steps: 1000", "num_steps: '${seed}'"),
    ],
)
def test_a_reference_may_stand_for_a_value_of_any_type(
    schema: dict[str, Any], toy: SimpleNamespace, value: str, reference: str
) -> None:
    assert faults(schema, toy.text.replace(value, reference)) == []


def test_the_tag_of_a_variant_stays_a_constant_for_completion(schema: dict[str, Any]) -> None:
    assert schema["$defs"]["Stunet"]["properties"]["name"]["const"] == "stunet"


def test_descriptions_titles_and_defaults_reach_the_editor(schema: dict[str, Any]) -> None:
    training = schema["$defs"]["Training"]["properties"]
    assert training["num_steps"]["description"] == "optimiser steps"
    assert training["betas"]["default"] == [0.9, 0.999] or training["betas"]["default"] == (0.9, 0.999)
    assert training["num_workers"]["execution"] is True
    assert schema["$defs"]["Stunet"]["description"] == "The network of the toy."


def test_defaults_by_kind_are_allowed_where_the_kinds_are_given(schema: dict[str, Any], toy: SimpleNamespace) -> None:
    assert faults(schema, toy.text + "defaults: {report: {report: text}}") == []
    assert faults(schema, toy.text + "defaults: {reprot: {}}")
    assert faults(schema_of(toy.Workflow), toy.text + "defaults: {}")
