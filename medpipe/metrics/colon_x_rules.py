"""The scoring rules of Colon-X's released engine (ColonEval/eval_engine.py, snapshot of 2026-01), misreadings included.

To reproduce published numbers and to show what changes under rules that read answers: wrong answers that score
1 and right
ones that score 0 are kept as they are. Written anew from the engine's observed behaviour. Its judge, a language
model that is
asked where rules find several answers, is a function here, and none by default: such items then score 0 and are
counted.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, final

# (question, prediction) -> the judge's text; ValueError where it gives none. Whatever else it raises ends the scoring.
Judge = Callable[[str, str], str]

RULES = ("yes_no", "landmark", "choice", "size", "open", "box")


@final
@dataclass(frozen=True)
class OfficialScore:
    """`score` 0 to 1; `asked_judge` where the engine would have asked its judge."""

    score: float
    asked_judge: bool = False


def official_score(
    rule: str, question: str, reference: str, prediction: Any, *, reasoning: bool = False, judge: Judge | None = None
) -> OfficialScore:
    """The engine's score of one prediction under the rule of its task. ValueError: a rule that is none of RULES.

    reasoning   the first complete <answer> block is scored; without one the whole text, thoughts included
    """
    if rule not in RULES:
        raise ValueError(f"no official rule {rule!r}; there are {', '.join(RULES)}")
    if not isinstance(prediction, str):
        return OfficialScore(0.0)  # the engine ends with a TypeError here
    if reasoning and (block := re.search(r"<answer>(.*?)</answer>", prediction, re.DOTALL | re.IGNORECASE)):
        prediction = block.group(1)
    if rule == "yes_no":
        return yes_no(question, reference, prediction, judge)
    if rule in ("choice", "size"):
        return choice(question, reference, prediction, judge, size=rule == "size")
    plain = {"landmark": landmark, "open": open_name, "box": box}[rule]
    return OfficialScore(plain(reference, prediction))


def yes_no(question: str, reference: str, prediction: str, judge: Judge | None) -> OfficialScore:
    """Tasks 3, 7, 8, 9: the reference word anywhere; both words go to the judge, whose failure leaves either right."""
    text, wanted = prediction.lower(), reference.strip().lower()
    found = [word for word in ("yes", "no") if re.search(rf"\b{word}\b", text)]
    asked = len(found) == 2
    if asked:
        if judge is None:
            return OfficialScore(0.0, asked_judge=True)
        text = _ask(judge, question, prediction, fallback=text)
    return OfficialScore(float(re.search(rf"\b{re.escape(wanted)}\b", text) is not None), asked)


@final
@dataclass(frozen=True)
class ParsedOption:
    """An option as the engine parses it: `text` keeps its trailing comma unless it ends with a bracket or is
    the last."""

    letter: str
    text: str
    short: str  # what stood in brackets: an abbreviation or "characteristic for ..."

    @property
    def characteristic(self) -> bool:
        return self.short.startswith("characteristic")


@lru_cache(maxsize=4096)
def parsed_options(question: str) -> tuple[ParsedOption, ...]:
    """The options of a question, lower case, with the engine's trailing commas."""
    found = []
    for letter, text in re.findall(r"<([A-Z])>\s*(.+?)(?=\s*<[A-Z]>|$)", question, re.DOTALL):
        bracket = re.fullmatch(r"(.*?)\s*\(([^()]*)\),?", text.strip(), re.DOTALL)
        outside, inside = (bracket.group(1), bracket.group(2)) if bracket else (text.strip(), "")
        found.append(ParsedOption(letter.lower(), outside.lower(), inside.lower()))
    return tuple(found)


def choice(question: str, reference: str, prediction: str, judge: Judge | None, *, size: bool) -> OfficialScore:
    """Tasks 1, 4, 5, 6, 10, 14, 15, 17 and, with a fallback on comparison phrases, 16."""
    options = parsed_options(question)
    (wanted,) = parsed_options(reference.strip()) or (None,)
    text = prediction.lower().strip()
    if wanted is None:
        return OfficialScore(0.0)  # the engine ends with a TypeError here
    if _names_no_option(text, options):
        return OfficialScore(0.0)
    asked = len(_mentioned(text, options)) > 1
    if asked:
        if judge is None and not size:
            return OfficialScore(0.0, asked_judge=True)
        answer = _ask(judge, question, prediction, fallback="") if judge is not None else ""
        if not answer and not size:
            return OfficialScore(0.0, asked_judge=True)
        text = answer.lower().strip() or text
    right = _matches(text, wanted) or (size and _phrases_match(wanted.text, text))
    return OfficialScore(float(right), asked)


def _names_no_option(text: str, options: tuple[ParsedOption, ...]) -> bool:
    """`<X> text` with a letter or a text outside the options, or of two different options where the texts are equal."""
    for letter, said in re.findall(r"<([a-z])>\s*([^<\n]*[^<\n\s])", text):
        said = re.sub(r"\s*\([^()]*\)$", "", said).rstrip(".")
        of_letter = next((option for option in options if option.letter == letter), None)
        if of_letter is None or not any(said in option.text or option.text.rstrip(",") in said for option in options):
            return True
        equal = [option for option in options if option.text == said]
        if equal and of_letter not in equal:
            return True
    return False


def _mentioned(text: str, options: tuple[ParsedOption, ...]) -> set[str]:
    """Options named by text, by a stand-alone letter in any case, or by abbreviation."""
    found = set()
    for option in options:
        short = "" if option.characteristic else option.short
        names = [name for name in (option.text, option.letter, short) if name]
        if any(re.search(rf"\b{re.escape(name)}\b", text) for name in names):
            found.add(option.letter)
    return found


def _matches(text: str, wanted: ParsedOption) -> bool:
    letter = wanted.letter
    by_letter = text == letter or re.search(rf"<{letter}>|\({letter}\)|\b{letter}[\s.)>\]]|[\s<(\[]{letter}\b", text)
    if by_letter:
        # Followed by or behind a sign of the list; quotes, stars, colons and commas are not of it.
        return True
    short = re.sub(r"^characteristic (?:for|of)\s+", "", wanted.short)
    plain = wanted.text.rstrip(",")
    return plain in text or bool(short and short in text)


_COMPARISONS = {
    "<": r"(?:smaller than|less than|below|under|<)",
    "<=": r"(?:smaller than or equal to|at most|up to|<=|≤)",
    ">": r"(?:larger than|greater than|more than|bigger than|above|over|>)",
    ">=": r"(?:larger than or equal to|greater than or equal to|at least|>=|≥)",
}


def _phrases_match(wanted: str, text: str) -> bool:
    """Every condition of the range said as `polyp|it|is <comparison> <number> mm`, or behind `and` after another."""
    conditions = _conditions(wanted)
    return bool(conditions) and all(
        re.search(rf"\b(?:polyp|it|is)\s+(?:is\s+)?{_COMPARISONS[sign]}\s+{number}\s+mm\b", text)
        for sign, number in conditions
    )


def _conditions(wanted: str) -> list[tuple[str, str]]:
    text = wanted.replace("≥", ">=").replace("≤", "<=")
    turned = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
    left = [(turned[sign], number) for number, sign in re.findall(r"(\d+)\s*mm\s*(<=|>=|<|>)\s*polyp", text)]
    right = [(sign, number) for sign, number in re.findall(r"polyp\s*(<=|>=|<|>)\s*(\d+)", text)]
    return left + right


_AGREE = r"\b(?:yes|visible|shows|seen|present|identified|detected)\b"
_DISAGREE = r"\b(?:no|not|none|absent|without|cannot)\b"


def landmark(reference: str, prediction: str) -> float:
    """Task 2: the exact text 1; else half for the stance, half for the landmark's word; both stances 0."""
    text = prediction.lower().strip()
    if text == reference.lower().strip():
        return 1.0
    agrees, disagrees = (re.search(words, text) is not None for words in (_AGREE, _DISAGREE))
    if agrees and disagrees:
        return 0.0
    stance = "yes" if agrees else "no" if disagrees else ""
    first = re.match(r"\s*(yes|no)\b", reference.lower())
    score = 0.5 if first and stance == first.group(1) else 0.0
    named = [word for word in ("cecum", "ileocecal valve") if word in reference.lower()]
    return score + (0.5 if any(word in text for word in named) else 0.0)


def _open_words(text: str) -> str:
    return " ".join(re.sub(r"[^\w\s]", "", re.sub(r"[-/]", " ", text.lower())).split())


def open_name(reference: str, prediction: str) -> float:
    """Tasks 11, 12: contained anywhere 1; else the longest run of the reference's words found, over their number."""
    wanted, text = _open_words(reference), _open_words(prediction)
    if wanted in text:
        return 1.0
    words = wanted.split()
    for length in range(len(words) - 1, 0, -1):
        runs = (" ".join(words[start : start + length]) for start in range(len(words) - length + 1))
        if any(run in text for run in runs):
            return length / len(words)
    return 0.0


def box(reference: str, prediction: str) -> float:
    """Task 13: exactly four runs of digits, signs and points ignored; IoU that counts pixels, ends included."""
    wanted, given = ([int(digits) for digits in re.findall(r"\d+", text)] for text in (reference, prediction))
    if len(given) != 4 or len(wanted) != 4:
        return 0.0

    def area(x1: int, y1: int, x2: int, y2: int) -> int:
        return max(0, x2 - x1 + 1) * max(0, y2 - y1 + 1)

    overlap = area(*(max(a, b) for a, b in zip(wanted[:2], given[:2], strict=True)),
                   *(min(a, b) for a, b in zip(wanted[2:], given[2:], strict=True)))  # fmt: skip
    union = area(*wanted) + area(*given) - overlap
    return overlap / union if union > 0 else 0.0


def _ask(judge: Judge, question: str, prediction: str, *, fallback: str) -> str:
    try:
        return judge(question, prediction).lower()
    except ValueError:  # the published engine goes on with what it has; the judge itself counts
        return fallback
