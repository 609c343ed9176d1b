"""A tokenizer of words learned from the training part's texts; a word that was never seen is spelt sign by sign."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import final

PAD, ANSWER, END, SPELT = 0, 1, 2, 3  # padding; the question ends, the answer begins; its end; next word is spelt
SPECIAL = ("<pad>", "<answer>", "<end>", "<spelt>")
_WORD = re.compile(r"\w+|[^\w\s]")


@final
class WordTokenizer:
    """Lower-case words, numbers and signs as tokens, in front of them the four special ones and single signs."""

    def __init__(self, words: Sequence[str]) -> None:
        self.words = tuple(words)
        self.ids = {word: index for index, word in enumerate(self.words)}
        if self.words[: len(SPECIAL)] != SPECIAL or len(self.ids) < len(self.words):
            raise ValueError(f"a tokenizer starts with {', '.join(SPECIAL)} and holds every word once")

    @classmethod
    def learned(cls, texts: Iterable[str], *, max_words: int = 8192) -> "WordTokenizer":
        """The most frequent words of the texts, and every single sign that occurs."""
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(_WORD.findall(text.lower()))
        signs = sorted({sign for word in counts for sign in word} | {"?"})
        frequent = sorted(counts, key=lambda word: (-counts[word], word))[:max_words]
        return cls([*SPECIAL, *signs, *(word for word in frequent if word not in set(signs))])

    def __len__(self) -> int:
        return len(self.words)

    def encode(self, text: str) -> list[int]:
        """The tokens of a text; signs that never occurred in training are left out."""
        found: list[int] = []
        for word in _WORD.findall(text.lower()):
            if word in self.ids:
                found.append(self.ids[word])
            else:
                found += [SPELT, *(self.ids[sign] for sign in word if sign in self.ids), SPELT]
        return found

    def decode(self, tokens: Iterable[int]) -> str:
        """The text up to the end token."""
        parts: list[str] = []
        spelling = ""
        is_spelling = False
        for token in tokens:
            if token in (END, PAD):
                break
            if token == SPELT:
                if is_spelling and spelling:
                    parts.append(spelling)
                is_spelling, spelling = not is_spelling, ""
            elif token >= len(SPECIAL):
                if is_spelling:
                    spelling += self.words[token]
                else:
                    parts.append(self.words[token])
        return " ".join([*parts, *([spelling] if spelling else [])])

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(list(self.words), ensure_ascii=False), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> "WordTokenizer":
        """Raises ValueError: no such file, or no tokenizer."""
        try:
            return cls(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, TypeError, json.JSONDecodeError) as error:
            raise ValueError(f"{path}: no tokenizer ({error})") from error
