import random
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from medpipe.config.base import Config
from medpipe.config.interpolation import interpolate
from medpipe.config.overlays import merge
from medpipe.config.overrides import apply_overrides
from medpipe.config.reader import read_text
from medpipe.config.show import default_node, render, written
from medpipe.config.tree import MappingNode, plain
from medpipe.config.validation import validate


def reread(text: str) -> MappingNode:
    return interpolate(read_text(text, "shown"), {})


def test_each_leaf_says_where_it_came_from(toy: SimpleNamespace) -> None:
    overlay = read_text("defaults: {segmentation_training: {training: {num_steps: 150}}}", "demo.yaml")
    tree = merge(read_text(toy.text, "w.yaml"), [overlay])
    tree = interpolate(apply_overrides(tree, ["seed=${env:SEED,5}"]), {})
    text = render(tree, validate(toy.Workflow, tree))
    lines = {line.split("#")[0].strip(): line.partition("#")[2].strip() for line in text.splitlines()}
    assert lines["workflow: toy"] == "w.yaml:1"
    assert lines["num_steps: 150"] == "demo.yaml:1 (default of segmentation_training)"
    assert lines["seed: 5"] == "command line: seed=${env:SEED,5} (${env:SEED,5})"
    assert lines["foreground_fraction: 0.33"] == "default"
    assert lines["learning_rate: 1e-2"] == "w.yaml:12"
    assert lines["structures: [bladder, rectum]"] == "w.yaml:11"


def test_comments_are_aligned_and_no_line_ends_in_blanks(toy: SimpleNamespace) -> None:
    tree = read_text(toy.text, "w.yaml")
    lines = render(tree, validate(toy.Workflow, tree)).splitlines()
    assert len({line.index("  # ") for line in lines if "  # " in line}) == 1
    assert all(line == line.rstrip() for line in lines)


def test_what_is_shown_reads_back_as_the_same_config(toy: SimpleNamespace) -> None:
    tree = read_text(toy.text, "w.yaml")
    config = validate(toy.Workflow, tree)
    shown = render(tree, config)
    again = reread(shown)
    assert validate(toy.Workflow, again) == config
    assert plain(again)["stages"]["organs"]["training"]["learning_rate"] == 1e-2
    assert plain(again)["stages"]["organs"]["start_from"] == {"from": "pretrain"}
    without_comments = [line.split("  #")[0] for line in shown.splitlines()]
    assert [line.split("  #")[0] for line in render(again, config).splitlines()] == without_comments


def test_defaults_in_lists_of_mappings_and_of_base_classes_are_shown() -> None:
    class Part(Config):
        a: int
        b: float = 1e-05

    class Whole(Config):
        parts: tuple[Part, ...]
        folder: Path = Path("runs/x")
        nothing: int | None = None

    tree = read_text("parts: [{a: 1}, {a: 2, b: 3.0}]", "f")
    config = validate(Whole, tree)
    again = reread(render(tree, config))
    assert plain(again) == {"parts": [{"a": 1, "b": 1e-05}, {"a": 2, "b": 3.0}], "folder": "runs/x", "nothing": None}
    assert validate(Whole, again) == config


@pytest.mark.parametrize("value", [1e-05, 1e16, 1e22, 5e-324, 1.0, -0.5, 123456789.125, 1.7976931348623157e308])
def test_floats_stay_floats(value: float) -> None:
    result = plain(reread(f"a: {written(value)}"))["a"]
    assert isinstance(result, float)
    assert result == value


TRAPS = [
    "", " ", "no", "True", "null", "~", "NULL", "012", "1e-3", ".5", ".inf", "1_000", "1:30", "2026-01-31", "0x1F",
    "a: b", "a #b", "#a", "- a", "-", "---", "...", "[a", "{a}", "a,b", "&a", "*a", "!a", "%a", "@a", "`a`", "'", '"',
    "a\nb", "a\n", "\t", "\r\n", "\x07", "\x7f", "\x85", "\u2028", "\ufeff", "ä ß 😀", "\\", "\\n", "a\\", "?", "? a",
    ":", "a:", "=", "<<", "${a}", "$${a}", "${", "$", "C:\\data", "/a/ct.nii.gz", "two words", "x  y", " x", "\xa0",
]  # fmt: skip


@pytest.mark.parametrize("text", TRAPS)
def test_text_is_quoted_where_it_must_be(text: str) -> None:
    node = default_node("a", {"plain": text, "in list": [text, text], "nested": [{"k": text}, [text]]})
    assert isinstance(node, MappingNode)
    assert plain(reread(render(node))) == plain(node)


@pytest.mark.parametrize("key", [text for text in TRAPS if "${" not in text])
def test_keys_are_quoted_where_they_must_be(key: str) -> None:
    node = default_node("a", {"x": {key: 1}})
    assert isinstance(node, MappingNode)
    assert plain(reread(render(node))) == {"x": {key: 1}}


def test_plain_words_and_paths_need_no_quotes() -> None:
    assert [written(text) for text in ("stunet", ".cache/b.nii.gz", "two words")] == [
        "stunet",
        ".cache/b.nii.gz",
        "two words",
    ]


def test_a_list_of_several_origins_is_written_one_entry_a_line(toy: SimpleNamespace) -> None:
    tree = apply_overrides(read_text(toy.text, "w.yaml"), ["organs.structures.1=uterus"])
    lines = [line.strip() for line in render(tree).splitlines()]
    assert any(
        line.startswith("- uterus") and line.endswith("command line: organs.structures.1=uterus") for line in lines
    )


def test_short_lists_of_lists_stay_on_one_line() -> None:
    assert render(read_text("a:\n- [1, 2]\n- []\n- [[x]]\n", "f")) == "a: [[1, 2], [], [[x]]]  # f:2\n"
    assert render(read_text("a: [[1, {b: 2}]]", "f")).splitlines()[1].strip() == "-"


def test_an_argument_with_a_line_break_cannot_break_out_of_its_comment() -> None:
    tree = apply_overrides(read_text("a: x", "w"), ["a=y\n  z"])
    assert render(tree) == "a: y z  # command line: a=y\\x0a  z\n"


def test_what_yaml_1_1_takes_for_booleans_is_quoted_for_its_readers() -> None:
    assert [written(text) for text in ("no", "On", "y", "north")] == ['"no"', '"On"', '"y"', "north"]


def test_an_infinite_default_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="the default of 'limit' is inf"):
        default_node("limit", {"x": [float("inf")]})


def test_random_trees_read_back_the_same_also_by_other_readers_of_yaml() -> None:
    """100 random trees (seeded): equal through our reader; through PyYAML's too, where it reads numbers as we do."""
    draw = random.Random(0)

    def value(depth: int) -> object:
        kind = draw.random()
        if depth and kind < 0.3:
            return {f"{draw.choice('abcdé')}{i}": value(depth - 1) for i in range(draw.randint(0, 3))}
        if depth and kind < 0.5:
            return [value(depth - 1) for _ in range(draw.randint(0, 4))]
        return draw.choice([None, True, 3, -7, draw.random(), draw.gauss(0, 1e-6), draw.choice(TRAPS), "word" * 12])

    for _ in range(100):
        data = {f"k{i}": value(4) for i in range(3)}
        node = default_node("k", data)
        assert isinstance(node, MappingNode)
        shown = render(node)
        assert plain(reread(shown)) == data
        assert set(yaml.safe_load(shown)) == set(data)
