"""The Clean Descriptors Option: of a description only words that are known to describe techniques and regions stay."""

import re
from collections.abc import Collection

_TOKENS = re.compile(r"[^\W_]+(?:[.][0-9]+[^\W_]*)?|[\W_]+")
# A thickness, a dose or an energy. Three digits and more could be a record's number, a year or a room.
_QUANTITY = re.compile(r"\d{1,2}([.]\d{1,2})?(mm|cm|cc|ml|s|gy|kv|mv|mev|d|x|fx|min)?", re.IGNORECASE)


def cleaned(text: str, words: Collection[str]) -> str:
    """The text's known words and small quantities in their order, one blank between; "" where none is known."""
    kept = [token for token in _TOKENS.findall(text) if token.lower() in words or _QUANTITY.fullmatch(token)]
    return " ".join(kept) if any(token.lower() in words for token in kept) else ""


def words_of(texts: Collection[str]) -> set[str]:
    """The words of names and phrases, in lower case; also each name as written, for names without blanks."""
    found: set[str] = set()
    for text in texts:
        found.update(token.lower() for token in _TOKENS.findall(text) if token[0].isalpha())
    return found
