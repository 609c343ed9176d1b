"""Yes or no, by clause: the word itself where it stands as an answer, else what the clause about the subject states."""

import re

from medpipe.metrics.answer_clauses import affirmed, clauses
from medpipe.metrics.answer_extraction import Extraction
from medpipe.metrics.answer_text import fold, normal, refuses, tokens

YES = {
    "yes", "yeah", "yep", "y", "true", "correct", "affirmative", "positive", "indeed", "certainly",
    "definitely", "absolutely",
    "ja", "oui", "si", "sí", "sim", "да", "tak", "evet", "はい", "예", "네",
    "是", "是的", "有", "对", "对的", "包含", "正确",
}  # fmt: skip
NO = {
    "no", "nope", "n", "false", "incorrect", "negative", "none", "neither", "never", "nein", "non", "nao", "não",
    "нет", "nie", "hayır", "いいえ", "아니요", "否",
    "不", "不是", "没有", "没",
    "不包含", "无", "错", "不正确",
}  # fmt: skip
# Chinese verbs that state a clause; `不` and `没` before them deny.
_CHINESE_NO = re.compile("不|没|无|否")
_CHINESE_YES = re.compile("是|有|对|包含|存在|可见")
_BARE = re.compile(r"^[\s\"'*_`#(\[{<>-]*([^\W\d_]+)[\s\"'*_`)\]}.,!:;<>-]*")
_STATED = re.compile(
    r"\b(?:is|are|was|were|can be|could be|has|have|there(?:'s| is| are)|(?:i|we)(?: can| do)? see)\b"
    r"|\b(?:shows?|contains?|depicts?|reveals?|demonstrates?"
    r"|indicates?|presents?|appears?|includes?|visible|present|seen|evident|identified|detected|observed|noted|found|shown)\b",
    re.IGNORECASE,
)
_DENIED = re.compile(
    r"\b(?:not|no|none|neither|nor|never|without|absent|absence|lacks?|lacking|free of|negative for|nothing)\b",
    re.IGNORECASE,
)
_CONCLUDED = re.compile(
    r"\b(?:answer|conclusion)\s*(?:is|:|would be|should be)[\s\"'*_(<\[{]*(yes|no|true|false)\b"
    r"|\\boxed\{\s*(yes|no|true|false)\b"
    r"|\b(?:say|probably|likely|definitely|certainly|maybe|perhaps|think|believe|guess|therefore|thus|hence|so),?\s+"
    r"(yes|no)\b(?=\s*(?:[.,;!]|$))",
    re.IGNORECASE,
)
_EMPTY_WORDS = {
    "the", "a", "an", "this", "that", "it", "there", "image", "picture", "frame", "video", "clip", "sequence",
    "photo", "in", "of",
    "any", "is", "are", "be", "been", "can", "could", "do", "does", "not", "no", "or", "and", "to", "on", "at",
    "with", "by", "for",
    "i", "we", "you", "see", "seen", "visible", "present", "shown", "show", "evident", "detected", "identified",
    "observed", "noted",
    "found", "contain", "depict", "evidence", "sign", "clearly", "appear", "here", "from", "what", "which",
    "as", "was", "were", "has",
    "have", "yes", "maybe", "perhaps", "probably", "absolutely", "definitely", "certainly", "indeed", "likely",
    "landmark", "finding", "colonoscopy", "endoscopy",
    "endoscopic", "colonoscopic", "doubt", "absent", "absence", "without", "none", "neither", "nor", "them", "really",
    "either", "all",
}  # fmt: skip
_IT_DOES = re.compile(r"^\s*(?:yes )?it (?:does|is)\s*$", re.IGNORECASE)
_EMPTY = frozenset(map(fold, _EMPTY_WORDS))
# `A polyp with no bleeding`: what is denied there is another thing than what is stated.
_LACKING = re.compile(r"\b(?:with no|without)\b", re.IGNORECASE)
_BOTH = re.compile(r"\byes\s*(?:/|,|\s|or|and)\s*no\b(?!\s+\w)|\bno\s+yes\b|\byes\s*(?:/|or|and)\s*no\b", re.IGNORECASE)


def is_yes_or_no(text: str) -> bool:
    """Whether a reference is a plain yes or no, in any of the languages above."""
    return plain_yes_or_no(text) is not None


def plain_yes_or_no(text: str) -> str | None:
    """`yes` or `no` for a text that is that word alone."""
    word = normal(text).strip(" .,!;:\"'*_`()[]{}<>-").casefold()
    return "yes" if word in YES else "no" if word in NO else None


def read_yes_no(text: str, question: str = "") -> Extraction:
    """What a normalised text answers to a yes/no question.

    question   its words tell whether a clause is about the subject: `A polyp is present.` answers nothing about
    bleeding
    """
    alone = plain_yes_or_no(text)
    if alone is not None:
        return Extraction("answered", alone, "word_alone")
    plain = affirmed(text)
    concluded = {_sense(next(filter(None, found))) for found in _CONCLUDED.findall(plain)}
    if len(concluded) == 1:
        return Extraction("answered", concluded.pop(), "conclusion")
    bare = _bare_words(plain)
    if len(set(bare)) > 1 or len(concluded) > 1 or _BOTH.search(plain):
        return Extraction("ambiguous", rule="yes_and_no")
    if bare:
        return Extraction("answered", bare[0], "word_of_a_clause")
    if refuses(text):
        return Extraction("refused", rule="declines")
    return _stated(plain, question, idiom=plain != text)


def _sense(word: str) -> str:
    return "yes" if word.casefold() in YES else "no"


def _bare_words(plain: str) -> list[str]:
    """Yes and no where they stand as a clause of their own, or lead the text before a clause."""
    found: list[str] = []
    for clause in clauses(plain):
        part = plain[clause.start : clause.end]
        match = _BARE.match(part)
        word = match.group(1).casefold() if match else ""
        if word not in YES | NO or word in (
            "none",
            "neither",
            "absolutely",
            "definitely",
            "certainly",
            "indeed",
            "never",
            "positive",
            "negative",
            "correct",
            "incorrect",
            "是",
            "有",
            "不",
        ):
            continue
        rest = part[match.end() :].strip() if match else ""
        # "No fresh blood is seen" and "No polyp": a determiner, which states no less; "no" before it ends the clause.
        if rest and word in ("no", "n", "non", "y", "si", "ja"):
            continue
        if rest and clause.start > 0 and found:
            continue
        found.append(_sense(word))
    return found


def _stated(plain: str, question: str, *, idiom: bool) -> Extraction:
    """What the clauses state about the subject of the question; mixed statements are ambiguous.

    idiom   "no doubt" or the like stood there: it affirms what it is about, with a verb or without
    """
    asked = _content(question)
    senses: list[str] = []
    for clause in clauses(plain):
        part = plain[clause.start : clause.end]
        content = _content(part)
        sense = _sense_about(part, asked) or ("yes" if idiom and _overlap(content, asked) else None)
        about_another = bool(asked) and bool(content) and not _overlap(content, asked)
        if sense is not None and not about_another:
            senses.append(sense)
    if len(set(senses)) == 1 and not re.search(r"\bor not\b", plain, re.IGNORECASE):
        return Extraction("answered", senses[0], "statement")
    if senses:
        return Extraction("ambiguous", rule="mixed_statements")
    return Extraction("unreadable", rule="nothing_stated")


def _sense_about(part: str, asked: set[str]) -> str | None:
    """The sense of a clause; what its subject is said to be without denies the subject only where it is the subject."""
    lacking = _LACKING.search(part)
    if lacking and not _DENIED.search(part[: lacking.start()]):
        subject, lacked = _content(part[: lacking.start()]), _content(part[lacking.end() :])
        if lacked and _overlap(subject, asked) and not _overlap(lacked, asked):
            return "yes" if _STATED.search(part) else None
    return _sense_of_clause(part)


def _sense_of_clause(part: str) -> str | None:
    if re.search("[\u3400-\u9fff]", part):
        if _CHINESE_NO.search(part):
            return "no"
        return "yes" if _CHINESE_YES.search(part) else None
    if _DENIED.search(part):
        return "no"
    return "yes" if _STATED.search(part) or _IT_DOES.match(part) else None


def _content(text: str) -> set[str]:
    return {token.folded for token in tokens(text) if len(token.folded) > 2 and token.folded not in _EMPTY}


def _overlap(some: set[str], others: set[str]) -> bool:
    """Whether two sets share a word, or the first five letters of one."""
    return bool(some & others) or bool({word[:5] for word in some if len(word) > 4} & {word[:5] for word in others})
