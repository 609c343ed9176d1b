import contextlib
import random
from pathlib import Path

import pytest

from medpipe.config.errors import ConfigError
from medpipe.config.origin import Origin
from medpipe.config.reader import MAX_DEPTH, read_text, read_tree, read_value
from medpipe.config.tree import MappingNode, ScalarNode, node_at, plain


def refusal(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read_text(text, "f.yaml")
    return str(caught.value)


def refusal_of_bytes(folder: Path, data: bytes) -> str:
    path = folder / "f.yaml"
    path.write_bytes(data)
    with pytest.raises(ConfigError) as caught:
        read_tree(path)
    return str(caught.value).replace(str(path), "f.yaml")


def test_a_file_becomes_a_tree_in_which_everything_knows_its_place(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_text("a: 1\nb:\n  c: [x, 2.5]\n")
    tree = read_tree(path)
    assert plain(tree) == {"a": 1, "b": {"c": ["x", 2.5]}}
    leaf = node_at(tree, ("b", "c", 1))
    assert leaf is not None
    assert str(leaf.origin) == f"{path}:3:10"
    inner = tree.entries["b"]
    assert isinstance(inner, MappingNode)
    assert str(inner.key_origin("c")) == f"{path}:3:3"


def test_a_duplicate_key_is_refused_with_both_places() -> None:
    assert refusal("a: 1\nb: 2\na: 3\n") == "f.yaml:3:1: key 'a' is given twice; first at f.yaml:1:1"


def test_a_duplicate_key_in_another_notation_is_a_duplicate() -> None:
    assert "key 'a' is given twice" in refusal("x: {a: 1, 'a': 2}")


def test_several_problems_are_told_at_once() -> None:
    lines = refusal("a: 012\nb: .inf\nc: !!python/name:os.system x\nd: &x 1\ne: *x\n1: f\n").splitlines()
    assert [line.split(" ")[0] for line in sorted(lines)] == [
        "f.yaml:1:4:",
        "f.yaml:2:4:",
        "f.yaml:3:4:",
        "f.yaml:4:4:",
        "f.yaml:5:4:",
        "f.yaml:6:1:",
    ]


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.system [ls]", "!x y", "!!str 012", "! 1", "!!float 1"])
def test_tags_are_refused(tag: str) -> None:
    assert refusal(f"a: {tag}").startswith("f.yaml:1:4: tags (")


def test_anchors_and_aliases_are_refused_with_the_way_out() -> None:
    message = refusal("a: &x {b: 1}\nc: *x\n")
    assert "f.yaml:1:4: anchors (&x) are not supported; write ${key.path}" in message
    assert "f.yaml:2:4: aliases (*x) are not supported" in message


def test_merge_keys_are_refused() -> None:
    assert "f.yaml:1:5: merge keys (<<)" in refusal("a: {<<: {b: 1}}")
    assert plain(read_text("'<<': 1", "f")) == {"<<": 1}


@pytest.mark.parametrize("key", ["1", "1.5", "true", "null", "~", "1e3"])
def test_a_key_that_is_not_text_is_refused(key: str) -> None:
    assert f"a key must be text; quote it: '{key}'" in refusal(f"{key}: x")


def test_words_that_yaml_1_1_reads_as_booleans_are_fine_as_keys() -> None:
    assert plain(read_text("no: 1\non: 2\ny: 3", "f")) == {"no": 1, "on": 2, "y": 3}


def test_a_list_as_a_key_is_refused() -> None:
    assert "f.yaml:1:3: a key must be text, not a list or mapping" in refusal("? [a]\n: b")


def test_quoted_words_are_text_and_block_text_too() -> None:
    text = "a: 'true'\nb: \"012\"\nc: |\n  1\nd: >-\n  no\n"
    assert plain(read_text(text, "f")) == {"a": "true", "b": "012", "c": "1\n", "d": "no"}


def test_an_empty_value_is_null_and_keeps_its_place() -> None:
    node = read_text("a:\nb: 1", "f").entries["a"]
    assert plain(node) is None
    assert (node.origin.line, node.origin.column) == (1, 3)


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment\n"])
def test_an_empty_file_is_refused(text: str) -> None:
    assert refusal(text) == "f.yaml:1:1: the file is empty"


@pytest.mark.parametrize(("text", "found"), [("- a", "a list"), ("abc", "a single value"), ("---\n", "a single value")])
def test_the_top_must_be_keys_and_values(text: str, found: str) -> None:
    assert f"expected keys and values ('seed: 0'), got {found}" in refusal(text)


def test_a_second_document_is_refused() -> None:
    assert refusal("a: 1\n---\nb: 2\n").startswith("f.yaml:2:1: a second document ('---')")


def test_a_tab_is_named() -> None:
    assert refusal("a:\n\tb: 1\n") == "f.yaml:2:1: a tab: indent with spaces"


def test_syntax_errors_carry_line_and_column() -> None:
    assert refusal("a: [1, 2\nb: 3\n").startswith("f.yaml:2:")
    assert refusal("a: b: c\n").startswith("f.yaml:1:5: a second ': ' in one line")
    assert "(begun in line 1)" in refusal("a: 'open\nb: 1\n\n")


def test_a_reference_without_quotes_inside_brackets_is_told_to_be_quoted() -> None:
    for text in ("a: [${b}, 1]", "a: {b: ${env:X,y}}"):
        assert 'a reference inside [ ] or { } must be quoted: "${...}"' in refusal(text)


def test_nesting_without_end_is_refused_and_does_not_exhaust_the_stack() -> None:
    assert f"nested deeper than {MAX_DEPTH} levels" in refusal("a: " + "[" * 1000)
    depth = MAX_DEPTH - 2
    assert plain(read_text("a: " + "[" * depth + "]" * depth, "f"))


@pytest.mark.parametrize("escape", [r"\UFFFFFFFF", r"\ud800"])
def test_escapes_that_are_no_character_are_refused(escape: str) -> None:
    assert refusal(f'a: "{escape}"').startswith("f.yaml:1:")


def test_a_control_character_is_refused_at_its_place() -> None:
    assert refusal("a: 1\nb: x\x07y\n").startswith("f.yaml:2:5: character U+0007 is not allowed")


def test_a_byte_order_mark_and_windows_line_ends_do_not_shift_positions(tmp_path: Path) -> None:
    (tmp_path / "f.yaml").write_bytes(b"\xef\xbb\xbfa: 1\r\nb: no\r\n")
    tree = read_tree(tmp_path / "f.yaml")
    assert plain(tree) == {"a": 1, "b": "no"}
    assert (tree.key_origin("a").line, tree.key_origin("a").column) == (1, 1)
    assert refusal_of_bytes(tmp_path, b"a: 1\r\nb: 012\r\n").startswith("f.yaml:2:4: 012 has a leading zero")


def test_a_file_that_is_not_utf_8_is_refused_at_the_byte(tmp_path: Path) -> None:
    assert refusal_of_bytes(tmp_path, "a: 1\nb: Größe\n".encode("latin-1")).startswith(
        "f.yaml:2:6: byte 0xf6 is not UTF-8"
    )
    assert "is not UTF-8" in refusal_of_bytes(tmp_path, "a: 1".encode("utf-16"))


def test_a_file_that_cannot_be_read_is_a_config_error(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.yaml", tmp_path, Path("zero\0byte")):
        with pytest.raises(ConfigError, match="cannot be read: "):
            read_tree(path)


def test_a_value_of_the_command_line_has_the_origin_of_its_argument() -> None:
    origin = Origin("command line: x=[1,a]")
    node = read_value("[1,a]", origin)
    assert plain(node) == [1, "a"]
    assert node.origin is origin
    with pytest.raises(ConfigError, match=r"^command line: x=\[1,a\]: "):
        read_value("[1,", origin)


def test_a_number_keeps_the_text_it_was_written_as() -> None:
    node = read_text("a: 1e-3", "f").entries["a"]
    assert isinstance(node, ScalarNode)
    assert node.text == "1e-3"


def test_no_spoilt_file_gets_past_the_reader_with_any_other_error() -> None:
    """500 files with some characters changed (seeded): a tree or a `ConfigError`, never anything else."""
    base = 'a: {b: [1, 2.5, "x y"], c: \'d\'}\ne:\n  - f: ${g}\n  - |\n    text\nh: "\\u00e4" # i\n'
    draw = random.Random(0)
    for _ in range(500):
        characters = list(base)
        for _ in range(draw.randint(1, 4)):
            characters[draw.randrange(len(characters))] = draw.choice("\t\n:-[]{}&*!|>'\"%@`#?,\\\x00\ufeff~<é0")
        with contextlib.suppress(ConfigError):
            plain(read_text("".join(characters), "f"))
