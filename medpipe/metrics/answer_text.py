"""From what a model wrote to the text that is read: thoughts and tags off, one form of every sign, words as tokens."""

import json
import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, final

LONGEST_ANSWER = 10_000  # characters after the thoughts: beyond it is a loop or a dump, not an answer

# Kimi `◁think▷`, `<|begin_of_thought|>`, Seed `<seed:think>`, Mistral `[THINK]`: brought to `<think>`.
_OTHER_THOUGHTS = re.compile(
    r"(?:◁|<\|?)(?P<end>/|end_of_|begin_of_)?(?:seed:)?(?:think|thought)\|?(?:▷|>)|\[(?P<END>/)?THINK\]", re.IGNORECASE
)
_THOUGHT = re.compile(r"<(think|thinking|reasoning|thought)>.*?</\1>", re.DOTALL | re.IGNORECASE)
_THOUGHT_OPEN = re.compile(r"<(?:think|thinking|reasoning|thought)>", re.IGNORECASE)
_THOUGHT_END = re.compile(r"</(?:think|thinking|reasoning|thought)>", re.IGNORECASE)
_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL | re.IGNORECASE)
_ANSWER_OPEN = re.compile(r"<answer>", re.IGNORECASE)
_SENTENCE_END = re.compile(r"[.!?。！？](?=\s|$|[\"')\]*])|\n")


@final
@dataclass(frozen=True)
class Said:
    """The text to read, or why there is none: `status` "unreadable" or "truncated" with its rule."""

    text: str = ""
    status: str = ""
    rule: str = ""


def said(raw: Any, finish_reason: str | None = None) -> Said:
    """What a raw answer says outside its thoughts; of several <answer> blocks the last.

    finish_reason   "length" where the token limit cut the answer: only what was complete before the cut is read, a
                    finished <answer> block or whole sentences
    """
    if not isinstance(raw, str):
        return Said(status="unreadable", rule="no_answer" if raw is None else "not_text")
    text = _THOUGHT.sub("", _OTHER_THOUGHTS.sub(_plain_thought, raw) if _has_other_thoughts(raw) else raw)
    ends = list(_THOUGHT_END.finditer(text))
    if ends:  # a template may have opened the thoughts in the prompt
        text = text[ends[-1].end() :]
    blocks = _ANSWER.findall(text)
    if blocks:
        return _readable(blocks[-1])
    cut = finish_reason == "length"
    if _THOUGHT_OPEN.search(text):
        return Said(status="truncated", rule="thoughts_not_closed")
    if opening := _ANSWER_OPEN.search(text):
        if finish_reason != "stop":  # a stop sequence `</answer>` is not part of the text
            return Said(status="truncated", rule="answer_not_closed")
        return _readable(text[opening.end() :])
    if cut:
        sentences = list(_SENTENCE_END.finditer(text))
        text = text[: sentences[-1].end()] if sentences else ""
        return _readable(text) if text.strip() else Said(status="truncated", rule="cut_off")
    return _readable(text)


def _has_other_thoughts(raw: str) -> bool:
    return "◁" in raw or "<|" in raw or "<seed:" in raw or "THINK]" in raw


def _plain_thought(found: re.Match[str]) -> str:
    return "</think>" if found.group("END") or found.group("end") in ("/", "end_of_") else "<think>"


_LATEX = re.compile(r"\\(?:text|textbf|mathrm|mathbf|textrm)\{([^{}]*)\}")
_STRUCK_OUT = re.compile(r"~~[^~\n]*~~")
_FENCE = re.compile(r"^```\w*\s*|\s*```$")
_ANSWER_KEYS = ("answer", "final_answer", "final answer", "choice", "option", "prediction", "label", "diagnosis")


def _readable(text: str) -> Said:
    if len(text) > LONGEST_ANSWER:
        return Said(status="unreadable", rule="too_long")
    text = _inside_json(text)
    if "\\" in text:
        text = re.sub(r"\\[()\[\]]", " ", _LATEX.sub(r"\1", text))
    if "~~" in text:
        text = _STRUCK_OUT.sub(" ", text)
    text = normal(text)
    return Said(text) if text else Said(status="unreadable", rule="empty")


def _inside_json(text: str) -> str:
    """What a flat JSON object gives as its answer; any other text, an object with a box in it too, as it is."""
    bare = _FENCE.sub("", text.strip())
    if not (bare.startswith("{") and bare.endswith("}")):
        return text
    try:
        values = {str(key).casefold(): value for key, value in json.loads(bare).items()}
    except (ValueError, RecursionError):
        return text
    if any(isinstance(value, list | dict) for value in values.values()):
        return text
    for value in (values[key] for key in _ANSWER_KEYS if key in values):
        if isinstance(value, str):
            return value
        if isinstance(value, bool):
            return "yes" if value else "no"
    return text


_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]")
_SIGNS = str.maketrans(
    {
        **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe58\ufe63\uff0d~\u223c", "-"),
        **dict.fromkeys("\u2018\u2019\u201a\u201b\u00b4\u2039\u203a", "'"),
        **dict.fromkeys("\u201c\u201d\u201e\u00ab\u00bb", '"'),
        "\u2264": "<=", "\u2a7d": "<=", "\u2265": ">=", "\u2a7e": ">=", "\u2266": "<=", "\u0153": "oe",
        "\u00e6": "ae", "\u2267": ">=", "\u3002": ".",
        "\u300a": "<", "\u300b": ">", "\u3008": "<", "\u3009": ">", "\u3010": "[", "\u3011": "]",
    }
)  # fmt: skip
_NOT = re.compile(r"\b(can)(?:not|'t)\b|(\w)n't\b", re.IGNORECASE)


_TO = re.compile(r"\b(\d+(?:\.\d+)?)\s+to\s+(\d+(?:\.\d+)?)\b", re.IGNORECASE)
_BETWEEN = re.compile(r"\bbetween\s+(\d+(?:\.\d+)?)\s+and\s+(\d+(?:\.\d+)?)\b", re.IGNORECASE)
_PREFIX = re.compile(r"\b(sub|non|pseudo|semi|pre|post)-(?=[a-z])", re.IGNORECASE)


_NOT_ASCII, _DIGIT = re.compile(r"[^\x00-\x7f]"), re.compile("[0-9]")


def _plain_digit(found: re.Match[str]) -> str:
    sign = found.group()
    return str(unicodedata.digit(sign)) if sign.isdigit() else sign


def normal(text: str) -> str:
    """One form of every sign: full width, other digits, dashes, quotes, comparison, invisible signs; case is kept."""
    if text.isascii():
        plain = text
    else:
        plain = _INVISIBLE.sub("", unicodedata.normalize("NFKC", text)).translate(_SIGNS)
        plain = _NOT_ASCII.sub(_plain_digit, plain)
    plain = _NOT.sub(lambda found: f"{found.group(1) or found.group(2)} not", plain)
    if _DIGIT.search(plain):
        plain = _BETWEEN.sub(r"\1-\2", _TO.sub(r"\1-\2", plain))
    return _PREFIX.sub(r"\1", plain).strip()


# British forms that stand at the start of a word or within it; American ones are what is compared.
_BRITISH = (
    ("haem", "hem"), ("aemi", "emi"), ("caec", "cec"), ("oedem", "edem"), ("oesoph", "esoph"), ("rrhoea", "rrhea"),
    ("tumour", "tumor"), ("colour", "color"), ("grey", "gray"), ("centre", "center"), ("fibre", "fiber"),
    ("faec", "fec"), ("visualis", "visualiz"),
)  # fmt: skip
_BRITISH_SIGN = re.compile("ae|oe|our|grey|centre|fibre|lis")


@lru_cache(maxsize=65_536)
def fold(word: str) -> str:
    """A word for comparison: lower case, no accents, American spelling, singular."""
    word = word.casefold()
    if not word.isascii():
        word = "".join(sign for sign in unicodedata.normalize("NFKD", word) if not unicodedata.combining(sign))
    if _BRITISH_SIGN.search(word):
        for british, american in _BRITISH:
            word = word.replace(british, american)
    if len(word) > 3 and word[-1] == "s" and word[-2] not in "sui":
        word = word[:-1]
    return word


@final
@dataclass(frozen=True, slots=True)
class Token:
    """A word, number or range of a normalised text; `folded` is what is compared."""

    word: str
    folded: str
    start: int
    end: int


# A range is one token, so that `2` is not found in `2-3`; Chinese is read sign by sign.
_TOKEN = re.compile(
    r"\d+(?:\.\d+)?(?:\s?-\s?\d+(?:\.\d+)?)?|[<>]=?|[\u3400-\u9fff]|[^\W\d_\u3400-\u9fff]+\d*(?:-\d+)?", re.UNICODE
)


def tokens(text: str) -> list[Token]:
    """The words of a normalised text."""
    return [Token(word := found.group(), _folded(word), found.start(), found.end()) for found in _TOKEN.finditer(text)]


def _folded(word: str) -> str:
    return word.replace(" ", "") if word[0].isdigit() else fold(word)


def folded_words(text: str) -> tuple[str, ...]:
    """The words of any text as they are compared."""
    return _kept_words(text) if len(text) < 120 else _words(text)


def _words(text: str) -> tuple[str, ...]:
    return tuple(token.folded for token in tokens(normal(text)))


# Names, options and references come again by the thousand.
_kept_words = lru_cache(maxsize=32_768)(_words)


_REFUSAL = re.compile(
    r"\b(?:i(?:'m| am)? (?:sorry|apologi[sz]e)|(?:can|could) not (?:\w+ )?(?:tell|determine|provide|assess"
    r"|identify|diagnose"
    r"|answer|give|help|assist|decide|say|interpret|comment|analy[sz]e|evaluate|be (?:determined|assessed"
    r"|answered|identified|diagnosed))"
    r"|unable to|not able to (?:tell|determine|provide|assess|identify|diagnose|answer)|(?:do|does|did) not know"
    r"|(?:insufficient|not enough|inadequate) (?:information|detail|evidence|data)|undecidable|impossible to "
    r"(?:tell|determine|say)"
    r"|as an ai\b|not (?:a|qualified as a) (?:doctor|medical professional|physician)"
    r"|unclear|uncertain|unsure|not (?:sure|certain)|no idea|(?:hard|difficult) to (?:tell|say|determine|assess)"
    r"|(?:none of the (?:above|options)|consult a (?:doctor|physician|medical)))",
    re.IGNORECASE,
)  # fmt: skip


def refuses(text: str) -> bool:
    """Whether a normalised text declines to answer."""
    return _REFUSAL.search(text) is not None
