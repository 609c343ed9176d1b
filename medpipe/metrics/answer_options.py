"""One of the options: by letter in any dress, by text as the longest whole phrase, by the size that it stands for."""

import re
from functools import lru_cache
from typing import NamedTuple, final

from medpipe.metrics.answer_extraction import Extraction, Mention, decide
from medpipe.metrics.answer_phrases import Phrases
from medpipe.metrics.answer_sizes import Size, read_size
from medpipe.metrics.answer_text import folded_words, normal, tokens
from medpipe.metrics.question_forms import Names, Option

_DRESS = r"<(\[{\"'`*_$"
_UNDRESS = r">)\]}\"'`*_$"
# `<B>`, `(b)`, `**B**`, `\boxed{B}`: signs on both sides.
_DRESSED = re.compile(
    rf"(?:(?<![A-Za-z0-9_'])|(?<=boxed))[{_DRESS}]+\s*(?:option\s+)?([A-Za-z])\s*[{_UNDRESS}]+(?![\w])"
)
# `B`, `B.`, `B) text`, `B: text` at the start of the text or of a line.
_LEADING = re.compile(r"(?m)^[\s*#>-]*([A-Za-z])\s*(?:[.):,;]|\s-|$)(?!\w)")
# `answer is B`, `option B`, `Answer:B`.
_CUED = re.compile(
    rf"\b(?:option|choice|answer|letter|select|choose|pick|go with|it's|it is)\b(?:\s+(?:is|would be|should be|option"
    rf"|choice|letter|the|with))*\s*[:=]?"
    rf"\s*[{_DRESS}]*([A-Za-z])(?![\w'])",
    re.IGNORECASE,
)
# Chinese signs are letters too, and stand right beside one.
_PLAIN = re.compile(r"(?<![A-Za-z0-9_'-])(?<!N/)([A-Z])(?![A-Za-z0-9_'-])")
# `A lesion`, `I think`: an article and a pronoun, unless the next word carries on from a letter.
_ROMAN = {"1": "I", "2": "II", "3": "III", "4": "IV"}
_NEXT_WORD = re.compile(r"\s+([a-z]+)")
_AFTER_LETTER = {
    "because", "since", "as", "is", "was", "and", "or", "but", "due", "for", "based", "which", "not", "seems",
    "appears",
    "with", "given", "would", "should", "are", "can", "could", "then", "than", "does", "has", "will", "may", "might",
    "looks", "fits", "matches", "describes", "shows", "corresponds", "instead", "if", "when", "while", "nor", "vs",
    "versus",
}  # fmt: skip
# `type A`, `hepatitis B`: a letter of some other count.
_OTHER_COUNT = re.compile(
    r"\b(?:type|grade|class|stage|vitamin|hepatitis|group|figure|fig|panel|table|appendix|lesion|plan|section|segment|influenza)\s+$",
    re.I,
)
_LETTER_TEXT_GAP = re.compile(rf"^[\s{re.escape(_UNDRESS)}.:;,=-]*(?:is\s+)?[\s{re.escape(_DRESS)}]*$")


@final
class OptionPhrases(NamedTuple):
    """What options are found by."""

    phrases: Phrases[str]
    letters: frozenset[str]
    sizes: dict[str, Size]  # empty unless every option is a size


def read_option(text: str, options: tuple[Option, ...], names: Names = ()) -> Extraction:
    """The letter of the option that a normalised text answers with.

    names   of the vocabulary: aliases of an option stand for it, other names hide shorter ones within them
    """
    known = option_phrases(options, names)
    words = tokens(text)
    texts = known.phrases.find(text, words)
    letters = find_letters(text, known.letters)
    mentions, clash = join(text, letters, texts, known.letters)
    if clash:
        return Extraction("ambiguous", rule=clash)
    answer, status, rule = decide(text, mentions)
    if answer is None and status == "unreadable" and known.sizes:
        size = read_size(text)
        fitting = [letter for letter, of_option in known.sizes.items() if size is not None and size.within(of_option)]
        if len(fitting) == 1:
            return Extraction("answered", fitting[0], "size")
    return Extraction(status, answer or "", rule)


@lru_cache(maxsize=1024)
def option_phrases(options: tuple[Option, ...], names: Names) -> OptionPhrases:
    """Every way to say each option: whole, without its brackets, by abbreviation, without words that all share."""
    phrases: Phrases[str] = Phrases()
    plain = {option.letter: _without_brackets(option.text) for option in options}
    shared = _shared([folded_words(outside) for outside, _ in plain.values()])
    for option in options:
        outside, inside = plain[option.letter]
        for text in (option.text, outside):
            phrases.add(text, option.letter)
        if inside:
            phrases.add(re.sub(r"^characteristic (?:for|of)\s+", "", inside, flags=re.IGNORECASE), option.letter)
        if re.search(r"\w\s+(?:imaging|image|mode)$", outside, re.IGNORECASE):
            phrases.add(outside.rsplit(None, 1)[0], option.letter)
        for number, roman in _ROMAN.items():
            if re.search(rf"\w\s+{number}$", outside):
                phrases.add(outside[:-1] + roman, option.letter)
        own = _own_words(outside, shared)
        if own:
            phrases.add(own, option.letter, weak=own.replace("-", "").replace(" ", "").isdigit())
    taken = {folded_words(option.text): option.letter for option in options}
    for name, aliases in names:
        owner = next((taken[words] for words in map(folded_words, (name, *aliases)) if words in taken), None)
        for text in (name, *aliases):
            phrases.add(text, owner)
    sizes = {option.letter: read_size(normal(option.text)) for option in options}
    given = {letter: size for letter, size in sizes.items() if size is not None}
    is_size = len(given) == len(options) and any("m" in option.text for option in options)
    return OptionPhrases(phrases, frozenset(plain), given if is_size else {})


def _without_brackets(text: str) -> tuple[str, str]:
    found = re.match(r"^(.*?)\s*\(([^()]*)\)\s*$", text, re.DOTALL)
    return (found.group(1), found.group(2)) if found and found.group(1) else (text, "")


def _shared(texts: list[tuple[str, ...]]) -> tuple[int, int]:
    """How many words all options start with, and end with; none where that would leave nothing of one."""

    def count(sides: list[tuple[str, ...]]) -> int:
        number = 0
        while (
            len(sides) > 1 and all(len(side) > number for side in sides) and len({side[number] for side in sides}) == 1
        ):
            number += 1
        return number

    start, end = count(texts), count([words[::-1] for words in texts])
    return (start, end) if all(len(words) > start + end for words in texts) else (0, 0)


def _own_words(text: str, shared: tuple[int, int]) -> str:
    plain = normal(text)
    words = tokens(plain)
    own = words[shared[0] : len(words) - shared[1]]
    return plain[own[0].start : own[-1].end] if any(shared) and own else ""


def find_letters(text: str, letters: frozenset[str]) -> list[Mention[str]]:
    """Letters that stand for an option, dressed or plain; dressed ones outside the options too."""
    found: dict[int, Mention[str]] = {}
    for pattern, dressed in ((_DRESSED, True), (_LEADING, True), (_CUED, False), (_PLAIN, False)):
        for match in pattern.finditer(text):
            start, letter = match.start(1), match.group(1)
            if start in found:
                continue
            if not dressed and not _stands_for_option(text, start, letter, cued=pattern is _CUED):
                continue
            if pattern is _LEADING and letter.islower() and match.group().strip(" *#>-") != letter and letter in "ai":
                continue
            upper = letter.upper()
            if upper in letters or (dressed and pattern is _DRESSED and letter.isupper()):
                found[start] = Mention(upper, start, match.end(1), "dressed_letter" if dressed else "letter")
    return [found[start] for start in sorted(found)]


def _stands_for_option(text: str, start: int, letter: str, *, cued: bool) -> bool:
    following = _NEXT_WORD.match(text, start + 1)
    if letter in "AaIi" and following and (letter in "Ii" or following.group(1) not in _AFTER_LETTER):
        return False
    if letter.islower():  # "the answer is b": nothing, or the end of the sentence, must follow
        return cued and re.match(r"\s*(?:[.,;!?)]|$)", text[start + 1 :]) is not None
    return cued or _OTHER_COUNT.search(text, max(0, start - 24), start) is None


def join(
    text: str, letters: list[Mention[str]], texts: list[Mention[str]], known: frozenset[str]
) -> tuple[list[Mention[str]], str]:
    """Letters with the texts right behind them as one mention each; the rule of the clash where the two disagree."""
    joined: list[Mention[str]] = []
    used: set[int] = set()
    for letter in letters:
        index = next((i for i, named in enumerate(texts) if named.start >= letter.end), None)
        inside = any(named.start <= letter.start < named.end for named in texts)
        behind = None if index is None else texts[index]
        if behind is not None and _LETTER_TEXT_GAP.match(text[letter.end : behind.start]):
            used.add(index)  # type: ignore[arg-type]
            if behind.candidate == letter.candidate:
                joined.append(Mention(letter.candidate, letter.start, behind.end, "letter_and_text"))
                continue
            if letter.how == "letter" and letter.candidate in ("A", "I"):  # an article before a text in lower case
                joined.append(behind)
                continue
            return [], "letter_against_text"
        if inside:
            continue
        if letter.candidate not in known:
            return [], "no_such_letter"
        joined.append(letter)
    joined += [named for i, named in enumerate(texts) if i not in used]
    return sorted(joined, key=lambda mention: mention.start), ""
