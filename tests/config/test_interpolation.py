import pytest

from medpipe.config.errors import ConfigError
from medpipe.config.interpolation import interpolate
from medpipe.config.merging import merge_default, merge_nodes
from medpipe.config.reader import read_text
from medpipe.config.tree import MappingNode, node_at, plain


def resolved(text: str, **env: str) -> object:
    return plain(interpolate(read_text(text, "w.yaml"), env))


def refusal(text: str, **env: str) -> str:
    with pytest.raises(ConfigError) as caught:
        resolved(text, **env)
    return str(caught.value)


def test_a_whole_reference_keeps_the_type_of_what_it_names() -> None:
    text = "{a: 1e-3, b: [1, {c: true}], x: '${a}', y: '${b}', z: '${b.1.c}', w: '${b.1}'}"
    assert resolved(text) == {
        "a": 1e-3,
        "b": [1, {"c": True}],
        "x": 1e-3,
        "y": [1, {"c": True}],
        "z": True,
        "w": {"c": True},
    }


def test_inside_text_the_value_is_inserted_as_written() -> None:
    assert resolved("{a: 1e-3, b: true, c: x, t: 'lr_${a}_${b}_${c}'}")["t"] == "lr_1e-3_true_x"  # type: ignore[index]


def test_text_put_together_is_never_read_as_a_number() -> None:
    assert resolved("{a: 1, t: '${a}${a}'}")["t"] == "11"  # type: ignore[index]


def test_a_list_or_null_cannot_stand_inside_text() -> None:
    assert "w.yaml:1:12: '${a}' is a list or mapping and cannot stand inside text" in refusal("{a: [], b: 'x${a}'}")
    assert "is null and cannot stand inside text" in refusal("{a: null, b: 'x${a}'}")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("7", 7),
        ("1e-3", 1e-3),
        ("true", True),
        ("null", None),
        ("yes", "yes"),
        ("/data/x", "/data/x"),
        ("'012'", "012"),
        (" 7\n", 7),
    ],
)
def test_a_variable_is_read_as_an_unquoted_word(variable: str, value: object) -> None:
    assert resolved("a: ${env:X}", X=variable) == {"a": value}


def test_a_variable_inside_text_is_inserted_as_it_is() -> None:
    assert resolved("a: ${env:X}/ct", X="/data/012") == {"a": "/data/012/ct"}


def test_the_default_stands_in_for_a_variable_that_is_not_set_or_empty() -> None:
    text = "a: '${env:X,data}'"
    assert resolved(text) == {"a": "data"}
    assert resolved(text, X="") == {"a": "data"}
    assert resolved(text, X="set") == {"a": "set"}
    assert resolved("a: '${env:X, 7}'") == {"a": 7}
    assert resolved("{a: '${env:X,}', b: '${env:X,}y', c: '${env:X,p,q}'}") == {"a": None, "b": "y", "c": "p,q"}


def test_a_variable_without_default_that_is_not_set_is_refused_at_its_place() -> None:
    message = refusal("a:\n  b: ${env:MEDPIPE_DATA}")
    assert message.startswith("w.yaml:2:6: the environment variable MEDPIPE_DATA is not set or empty; set it, or write")
    assert "not set or empty" in refusal("a: ${env:X}", X=" ")


def test_a_variable_that_is_refused_as_a_word_is_named() -> None:
    assert refusal("a: ${env:X}", X="012").startswith("w.yaml:1:4: '${env:X}': 012 has a leading zero")
    assert "not valid Unicode" in refusal("a: x${env:X}", X="\udcff")


def test_a_variable_cannot_bring_in_a_reference() -> None:
    assert resolved("{a: '${env:X}', secret: 1}", X="${secret}") == {"a": "${secret}", "secret": 1}


def test_a_doubled_dollar_stands_for_the_characters_themselves() -> None:
    assert resolved("{a: '$${x}', b: '$$${x}', c: '$5 {y}'}") == {"a": "${x}", "b": "$${x}", "c": "$5 {y}"}


def test_references_may_lead_through_references() -> None:
    text = "{a: {b: '${c}'}, c: {d: '${e}'}, e: 5, x: '${a.b.d}', y: '${x}'}"
    assert resolved(text) == {"a": {"b": {"d": 5}}, "c": {"d": 5}, "e": 5, "x": 5, "y": 5}


@pytest.mark.parametrize(
    "text",
    ["a: ${a}", "{a: '${b}', b: 'x${a}'}", "{a: {b: '${a}'}}", "{a: '${a.b}'}", "{a: ['${a.0}']}", "{a: ['${a}']}"],
)
def test_circles_are_refused(text: str) -> None:
    assert "refers to itself: " in refusal(text)


def test_a_circle_is_told_step_by_step() -> None:
    assert "'${a}' refers to itself: a -> b -> c -> a" in refusal("{a: '${b}', b: '${c}', c: '${a}'}")


def test_a_missing_key_is_refused_with_a_suggestion() -> None:
    message = refusal("seed: 1\ndata: {root: x}\na: ${data.rot}\nb: ${sead}\nc: ${data.root.x}\nd: ${e.5}\ne: [1]\n")
    lines = message.splitlines()
    assert lines[0].startswith("w.yaml:3:4: '${data.rot}': 'data' has no key 'rot'; did you mean 'root'?")
    assert lines[1].startswith("w.yaml:4:4: '${sead}': the workflow has no key 'sead'; did you mean 'seed'?")
    assert lines[2] == "w.yaml:5:4: '${data.root.x}': 'data.root' is a single value and has no entry 'x'"
    assert lines[3] == "w.yaml:6:4: '${e.5}': 'e' is a list of 1 and has no entry '5'"


def test_malformed_references_are_refused_at_their_place() -> None:
    assert refusal("a: 1\nb: x ${oc.env:HOME}").startswith("w.yaml:2:4: '${oc.env:HOME}' is not understood; write")
    assert refusal("b: '${a'").startswith("w.yaml:1:4: '${a' is not closed")


def test_keys_are_not_interpolated() -> None:
    assert "w.yaml:1:2: '${a}': a key cannot hold '${'" in refusal("{'${a}': 1, a: 2}")


def test_an_avalanche_of_references_is_stopped() -> None:
    lists = [f"l{level}: [" + ", ".join([f"'${{l{level - 1}}}'"] * 10) + "]" for level in range(1, 12)]
    assert "more than 20000 values" in refusal("\n".join(["l0: [x]", *lists]))
    texts = [f"t{level}: " + f"${{t{level - 1}}}" * 10 for level in range(1, 12)]
    assert "more than 20000 characters" in refusal("\n".join(["t0: xxxx", *texts]))


def test_long_chains_are_refused_instead_of_exhausting_the_stack() -> None:
    """400 links would be some 2800 calls deep, Python allows 1000; 120 lists within each other are 7140 copies."""
    forward = [f"k{link}: ${{k{link + 1}}}" for link in range(400)]
    assert "more references in a row than make sense" in refusal("\n".join([*forward, "k400: 1"]))
    nested = [f"k{link}: ['${{k{link - 1}}}']" for link in range(1, 120)]
    assert "nest too deep" in refusal("\n".join(["k0: [1]", *nested]))


def test_the_origin_names_the_reference_and_where_the_value_stands() -> None:
    tree = interpolate(read_text("a: {b: 5}\nc: ${a.b}\nd: ${a}\ne: ${env:X}\nf: x${a.b}", "w"), {"X": "1"})
    origins = {key: str(node.origin) for key, node in tree.entries.items()}
    assert origins["c"] == "w:2:4 (${a.b}, from w:1:8)"
    assert origins["e"] == "w:4:4 (${env:X})"
    assert origins["f"] == "w:5:4 (${a.b})"
    inside = node_at(tree, ("d", "b"))
    assert inside is not None
    assert str(inside.origin) == "w:3:4 (${a}, from w:1:8)"


def test_entries_over_a_reference_are_merged_with_what_it_names() -> None:
    base = read_text("{a: {name: p, x: 1}, b: '${a}', c: '${a}', d: '${b.x}'}", "w")
    over = read_text("{b: {x: 2}, c: {name: q}}", "o")
    merged = merge_nodes(base, over)
    assert isinstance(merged, MappingNode)
    assert plain(interpolate(merged)) == {
        "a": {"name": "p", "x": 1},
        "b": {"name": "p", "x": 2},
        "c": {"name": "q"},
        "d": 2,
    }


def test_a_default_over_a_reference_respects_the_variant_that_it_names() -> None:
    for name, size in (("p", 9), ("q", 1)):
        base = read_text(f"{{a: {{name: {name}, size: 1}}, b: '${{a}}'}}", "w")
        merged = merge_default(base, read_text("b: {name: p, size: 9}", "o"))
        assert isinstance(merged, MappingNode)
        assert plain(interpolate(merged))["b"] == {"name": name, "size": size}
