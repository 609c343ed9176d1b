import math

import pytest

from medpipe.config.scalars import ScalarFault, checked_text, plain_scalar


@pytest.mark.parametrize("text", ["no", "off", "yes", "on", "y", "n", "True", "FALSE", "No"])
def test_only_true_and_false_are_booleans(text: str) -> None:
    assert plain_scalar(text) == text
    assert plain_scalar("true") is True
    assert plain_scalar("false") is False


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("1E5", 1e5),
        (".5", 0.5),
        ("-.5", -0.5),
        ("1.", 1.0),
        ("+1.5e+3", 1500.0),
        ("0.0", 0.0),
        ("0e5", 0.0),
    ],
)
def test_floats_of_yaml_1_2(text: str, value: float) -> None:
    result = plain_scalar(text)
    assert isinstance(result, float)
    assert result == value


@pytest.mark.parametrize(("text", "value"), [("0", 0), ("-7", -7), ("+7", 7), ("0o17", 15), ("0x1F", 31), ("10", 10)])
def test_whole_numbers_of_yaml_1_2(text: str, value: int) -> None:
    result = plain_scalar(text)
    assert type(result) is int
    assert result == value


@pytest.mark.parametrize(
    "text", ["1_000", "1:30", "1:30:00", "2026-01-31", "1.2.840.10008", "0b11", "1,5", "12a", "=", "١٢"]
)
def test_what_looks_like_a_number_to_yaml_1_1_is_text(text: str) -> None:
    assert plain_scalar(text) == text


@pytest.mark.parametrize("text", ["", "~", "null"])
def test_three_ways_to_write_null(text: str) -> None:
    assert plain_scalar(text) is None


@pytest.mark.parametrize("text", ["012", "-012", "00", "08", "01.5", "007e3"])
def test_a_leading_zero_is_refused(text: str) -> None:
    with pytest.raises(ScalarFault, match="leading zero: drop it if this is a number, quote it"):
        plain_scalar(text)


@pytest.mark.parametrize("text", [".inf", "-.inf", "+.INF", ".nan", ".NaN"])
def test_infinite_and_undefined_numbers_are_refused(text: str) -> None:
    with pytest.raises(ScalarFault, match="not a finite number"):
        plain_scalar(text)


@pytest.mark.parametrize("text", ["1e999", "-1e999", "1e-999", "9223372036854775808", "1" * 5000])
def test_numbers_that_their_type_cannot_hold_are_refused(text: str) -> None:
    with pytest.raises(ScalarFault, match="does not fit"):
        plain_scalar(text)


def test_the_64_bit_limits_themselves_are_held() -> None:
    assert plain_scalar("9223372036854775807") == 2**63 - 1
    assert plain_scalar("-9223372036854775808") == -(2**63)
    assert math.isfinite(float(str(plain_scalar("1e308"))))


@pytest.mark.parametrize("text", ["Null", "NULL"])
def test_other_spellings_of_null_are_refused_instead_of_becoming_text(text: str) -> None:
    with pytest.raises(ScalarFault, match="write null"):
        plain_scalar(text)


def test_half_a_surrogate_pair_is_refused() -> None:
    with pytest.raises(ScalarFault, match="not valid Unicode"):
        checked_text("a\ud800")
    assert checked_text("größer 😀") == "größer 😀"
