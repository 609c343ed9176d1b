"""What an unquoted word of YAML means: the core schema of YAML 1.2 (section 10.3.2), made stricter.

Only `true` and `false` are booleans; `no`, `off`, `yes`, `True` are text. `1e-3` and `.5` are floats. `1_000`, `1:30`
and dates are text. Refused, because readers of YAML disagree about them or a later step would: a leading zero (`012`
is ten in YAML 1.1, twelve in 1.2), `.inf`, `.nan`, `NULL`, and numbers that their type cannot hold.
"""

import re

from medpipe.config.tree import Value

_INTEGER = re.compile(r"[-+]?[0-9]+")
_OCTAL_OR_HEX = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_LEADING_ZERO = re.compile(r"[-+]?0[0-9]+(\.[0-9]*)?([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_SURROGATE = re.compile("[\ud800-\udfff]")

_WORDS: dict[str, Value] = {"": None, "~": None, "null": None, "true": True, "false": False}


class ScalarFault(ValueError):
    """The word has no meaning that everybody shares; says what to write instead."""


def plain_scalar(text: str) -> Value:
    """The value of an unquoted word; `ScalarFault` where it is refused."""
    if text in _WORDS:
        return _WORDS[text]
    if text in ("Null", "NULL"):
        raise ScalarFault(f"{text}: write null, or quote it if it is text")
    if _NOT_FINITE.fullmatch(text):
        raise ScalarFault(f"{text} is not a finite number; quote it if it is text")
    if _LEADING_ZERO.fullmatch(text):
        raise ScalarFault(f"{text} has a leading zero: drop it if this is a number, quote it if it is text")
    if _INTEGER.fullmatch(text) or _OCTAL_OR_HEX.fullmatch(text):
        return _integer(text)
    if _FLOAT.fullmatch(text):
        return _float(text)
    return checked_text(text)


def checked_text(text: str) -> str:
    """The text itself; half of a surrogate pair (from an escape or an undecodable argument) is refused."""
    if _SURROGATE.search(text):
        raise ScalarFault(f"{text!a} is not valid Unicode text")
    return text


def _integer(text: str) -> int:
    # 25 characters hold any 64-bit number, so that int() is never asked for thousands of digits (which it refuses).
    value = int(text, 0) if len(text) <= 25 else 2**64
    if not -(2**63) <= value < 2**63:
        raise ScalarFault(f"{text[:25]} does not fit into 64 bits; quote it if it is text")
    return value


def _float(text: str) -> float:
    value = float(text)
    has_digits = any(digit in "123456789" for digit in re.split("[eE]", text)[0])
    if value in (float("inf"), float("-inf")) or (value == 0 and has_digits):
        raise ScalarFault(f"{text[:40]} does not fit into a 64-bit float; quote it if it is text")
    return value
