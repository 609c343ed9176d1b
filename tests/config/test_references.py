import pytest

from medpipe.config.references import InterpolationFault, Reference, escaped, is_key_reference, split


def test_literals_and_references_are_told_apart() -> None:
    assert split("a${b.c}d${env:E,f}") == [
        "a",
        Reference("${b.c}", path=("b", "c")),
        "d",
        Reference("${env:E,f}", variable="E", default="f"),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "${}",
        "${oc.env:X}",
        "${eval:1+1}",
        "${env:}",
        "${env:1X}",
        "${a..b}",
        "${.a}",
        "${a b}",
        "${a[0]}",
        "${ENV:X}",
        "${a:b}",
    ],
)
def test_any_other_form_is_refused(text: str) -> None:
    with pytest.raises(InterpolationFault, match=r"is not understood; write \$\{env:NAME\}"):
        split(text)


def test_unclosed_and_nested_references_are_refused() -> None:
    with pytest.raises(InterpolationFault, match="is not closed"):
        split("a ${b")
    with pytest.raises(InterpolationFault, match="cannot be nested"):
        split("${env:A,${b}}")


@pytest.mark.parametrize("text", ["${", "$${", "$$${a}", "a${b}c$", "$", "{}", "$x", "${env:A,${b}"])
def test_escaped_text_is_given_back(text: str) -> None:
    pieces = split(escaped(text))
    assert all(isinstance(piece, str) for piece in pieces)
    assert "".join(str(piece) for piece in pieces) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [("${a.b}", True), ("${a} ", False), ("${env:A}", False), ("$${a}", False), ("${a}${b}", False), (3, False)],
)
def test_a_whole_key_reference_is_recognised(text: object, expected: bool) -> None:
    assert is_key_reference(text) is expected
