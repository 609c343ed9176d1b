"""Models that never look: the frequencies of a training part's references, found again by the prompt's wording."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import final

from medpipe.language.model import Asked, Reply, VisionLanguageModel
from medpipe.language.options import BaselineModel
from medpipe.metrics.question_forms import parse_options


@final
class Baseline(VisionLanguageModel):
    """The four baselines of `BaselineModel`. `counted`: prompt and reference of the training part."""

    batch_size = 4096

    def __init__(self, config: BaselineModel, counted: Iterable[tuple[str, str]] = ()) -> None:
        self.kind, self.text = config.name, config.text
        self.overall: Counter[str] = Counter()
        self.of_prompt: dict[str, Counter[str]] = {}
        self.of_option: Counter[str] = Counter()
        for prompt, reference in counted:
            self.overall[reference] += 1
            self.of_prompt.setdefault(_wording(prompt), Counter())[reference] += 1
            self.of_option[_option_text(reference)] += 1

    def answer_all(self, asked: Sequence[Asked]) -> list[Reply]:
        return [Reply(self._answer(one.prompt), "stop") for one in asked]

    def _answer(self, prompt: str) -> str:
        if self.kind == "constant":
            return self.text
        if self.kind == "question_prior" and (known := self.of_prompt.get(_wording(prompt))):
            return most_frequent(known)
        options = parse_options(prompt) if self.kind == "option_prior" else ()
        if options:
            return str(max(options, key=lambda option: self.of_option[_option_text(option.text)]))
        return most_frequent(self.overall) if self.overall else "yes"


def most_frequent(counts: Counter[str]) -> str:
    """The most frequent text; of several the first in the alphabet, so that order does not matter."""
    return min(counts, key=lambda text: (-counts[text], text))


def _wording(prompt: str) -> str:
    return " ".join(prompt.casefold().split())


def _option_text(text: str) -> str:
    return text.split("> ", 1)[-1].casefold().strip() if text.startswith("<") else text.casefold().strip()
