"""Whole phrases found in a text, the longest at each place: `high grade adenoma` is not `adenoma`, `2-3` is not `2`."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar, final

from medpipe.metrics.answer_extraction import Mention
from medpipe.metrics.answer_text import Token, folded_words

Candidate = TypeVar("Candidate", bound=Hashable)

# Abbreviations that are English words, and bare numbers: they count alone, in brackets or behind such a word.
_COMMON_WORDS = {"is", "it", "in", "i", "a", "an", "as", "on", "no", "so", "us", "was", "has"}
_CUES = {
    "grade", "score", "type", "bbp", "class", "stage", "mayo", "nice", "paris", "level", "category", "scale", "rating",
}  # fmt: skip

_FILLERS = {"of", "is", "was", "a", "equal", "would", "be"}  # "a score of 2", "the grade is 1"


@final
@dataclass
class Phrases(Generic[Candidate]):
    """Phrases by their first word. A phrase of several candidates, or of none (a shadow), hides shorter ones within."""

    by_first: dict[str, list[tuple[tuple[str, ...], Candidate | None, str]]] = field(default_factory=dict)
    exact_case: dict[str, Candidate] = field(default_factory=dict)  # abbreviations, with their case
    weak: set[tuple[str, ...]] = field(default_factory=set)  # bare numbers

    def add(self, text: str, candidate: Candidate | None, *, weak: bool = False) -> None:
        """Let `text` stand for the candidate; None: it stands for nothing that is asked."""
        words = folded_words(text)
        if not words:
            return
        if candidate is not None and len(words) == 1 and is_abbreviation(text):
            self.exact_case.setdefault(text.strip(), candidate)
            if words[0] in _COMMON_WORDS or len(words[0]) < 3:
                return
        if weak:
            self.weak.add(words)
        entries = self.by_first.setdefault(words[0], [])
        for index, (known, owner, source) in enumerate(entries):
            if known == words:
                if candidate is not None and owner is not None and owner != candidate:
                    entries[index] = (words, None, source)  # says nothing: it would stand for both
                elif owner is None and candidate is not None and source == "":
                    entries[index] = (words, candidate, text)
                return
        entries.append((words, candidate, "" if candidate is None else text))
        entries.sort(key=lambda entry: -len(entry[0]))

    def find(self, text: str, words: Sequence[Token]) -> list[Mention[Candidate]]:
        """The mentions in a normalised text whose tokens are `words`, from left to right, none within another."""
        found: list[Mention[Candidate]] = []
        position = 0
        while position < len(words):
            token = words[position]
            length, candidate = self._longest(words, position)
            if length == 0 and token.word in self.exact_case and self._counts(text, words, position):
                length, candidate = 1, self.exact_case[token.word]
            if length and candidate is not None:
                found.append(Mention(candidate, token.start, words[position + length - 1].end, "text"))
            position += max(1, length)
        return found

    def _longest(self, words: Sequence[Token], position: int) -> tuple[int, Candidate | None]:
        for phrase, candidate, _ in self.by_first.get(words[position].folded, ()):
            length = len(phrase)
            if position + length <= len(words) and all(
                words[position + step].folded == phrase[step] for step in range(1, length)
            ):
                if phrase in self.weak and not _cued(words, position, length):
                    continue
                return length, candidate
        return 0, None

    def _counts(self, text: str, words: Sequence[Token], position: int) -> bool:
        token = words[position]
        if token.folded not in _COMMON_WORDS:
            return True
        bracketed = text[token.start - 1 : token.start] == "(" and text[token.end : token.end + 1] == ")"
        in_paris = text[max(0, token.start - 2) : token.start] == "0-"  # 0-Is, as the Paris classification writes it
        return len(words) == 1 or bracketed or in_paris or _cued(words, position, 1)


def _cued(words: Sequence[Token], position: int, length: int) -> bool:
    """Whether a short sign stands alone, or behind a word that announces it."""
    before = position - 1
    while before >= 0 and position - before <= 2 and words[before].folded in _FILLERS:
        before -= 1
    return len(words) == length or (before >= 0 and words[before].folded in _CUES)


def is_abbreviation(text: str) -> bool:
    """NBI, Is, Isp, IIa, UC: up to five letters, a capital first and not a plain word of lower case."""
    text = text.strip()
    return 1 < len(text) <= 5 and text.isalpha() and text[0].isupper() and (text.isupper() or len(text) <= 3)


def phrases_of(names: Mapping[str, Iterable[str]], shadows: Iterable[str] = ()) -> "Phrases[str]":
    """The phrases of a vocabulary: canonical name and aliases; shadows stand for nothing and hide what they hold."""
    phrases: Phrases[str] = Phrases()
    for name, aliases in names.items():
        for text in (name, *aliases):
            phrases.add(text, name)
    for text in shadows:
        phrases.add(text, None)
    return phrases
