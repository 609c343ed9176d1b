import random

import pytest

from medpipe.config.merging import merge_default, merge_nodes
from medpipe.config.reader import read_text
from medpipe.config.tree import MappingNode, PatchedNode, node_at, plain


def merged(base: str, over: str) -> object:
    return plain(merge_nodes(read_text(base, "base"), read_text(over, "over")))


def defaulted(base: str, default: str) -> object:
    return plain(merge_default(read_text(base, "base"), read_text(default, "default")))


def test_mappings_are_merged_and_all_else_is_replaced() -> None:
    assert merged("{a: {b: 1, c: [1, 2]}, d: 4}", "{a: {c: [3], e: 5}}") == {"a": {"b": 1, "c": [3], "e": 5}, "d": 4}
    assert merged("{a: {b: 1}}", "{a: null}") == {"a": None}
    assert merged("{a: 1}", "{a: {b: 2}}") == {"a": {"b": 2}}


def test_every_value_keeps_the_origin_of_the_file_it_came_from() -> None:
    tree = merge_nodes(read_text("a: {b: 1, c: 2}", "base"), read_text("a: {c: 3, d: 4}", "over"))
    inner = node_at(tree, ("a",))
    assert isinstance(inner, MappingNode)
    assert {key: node.origin.source for key, node in inner.entries.items()} == {"b": "base", "c": "over", "d": "over"}
    assert inner.key_origin("d").source == "over"


def test_the_same_variant_is_merged() -> None:
    assert merged("{x: {name: stunet, size: base, w: 1}}", "{x: {size: tiny}}") == {
        "x": {"name": "stunet", "size": "tiny", "w": 1}
    }
    assert merged("{x: {name: stunet, w: 1}}", "{x: {name: stunet, w: 2}}") == {"x": {"name": "stunet", "w": 2}}


def test_another_variant_replaces_the_whole_and_leaves_no_option_of_the_old_one() -> None:
    assert merged("{x: {name: stunet, size: base}}", "{x: {name: swin_unetr}}") == {"x": {"name": "swin_unetr"}}
    assert merged("{x: {stage: report, a: 1}}", "{x: {stage: evaluation}}") == {"x": {"stage": "evaluation"}}


@pytest.mark.parametrize(
    ("base", "expected"),
    [
        ("{b: {name: stunet, size: base}}", {"b": {"name": "stunet", "size": "tiny"}}),
        ("{b: {size: base}}", {"b": {"size": "tiny", "name": "stunet"}}),
        ("{c: 1}", {"c": 1, "b": {"name": "stunet", "size": "tiny"}}),
        ("{b: {name: swin_unetr}}", {"b": {"name": "swin_unetr"}}),
        ("{b: null}", {"b": None}),
    ],
)
def test_a_default_with_a_name_applies_to_that_name_or_where_there_is_none(base: str, expected: object) -> None:
    assert defaulted(base, "{b: {name: stunet, size: tiny}}") == expected


def test_a_default_value_replaces_a_null_where_a_mapping_does_not() -> None:
    assert defaulted("{a: null, b: null}", "{a: 3, b: {c: 4}}") == {"a": 3, "b": None}


def test_a_mapping_over_a_reference_waits_for_what_the_reference_names() -> None:
    tree = merge_nodes(read_text("a: '${b}'", "base"), read_text("a: {c: 1}", "over"))
    patched = node_at(tree, ("a",))
    assert isinstance(patched, PatchedNode)
    assert [(plain(patch), is_default) for patch, is_default in patched.patches] == [({"c": 1}, False)]
    again = merge_nodes(tree, read_text("a: 5", "over"))
    assert plain(again) == {"a": 5}


def test_merging_agrees_with_merging_dictionaries() -> None:
    """200 random pairs (seeded) against the rule written on plain dictionaries."""

    def rule(base: object, over: object) -> object:
        if not isinstance(base, dict) or not isinstance(over, dict):
            return over
        return {
            key: rule(base[key], over[key]) if key in base and key in over else {**base, **over}[key]
            for key in {**base, **over}
        }

    def draw_tree(draw: random.Random, depth: int) -> str:
        if depth and draw.random() < 0.6:
            return "{" + ", ".join(f"{key}: {draw_tree(draw, depth - 1)}" for key in "abc" if draw.random() < 0.6) + "}"
        return draw.choice(["1", "null", "[1, {a: 2}]", "text"])

    draw = random.Random(0)
    for _ in range(200):
        base, over = (read_text(f"{{r: {draw_tree(draw, 4)}}}", "f") for _ in range(2))
        assert plain(merge_nodes(base, over)) == rule(plain(base), plain(over))
