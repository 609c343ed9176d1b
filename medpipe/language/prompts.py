"""From a question to a prompt. The reference has no way in: a prompt is made of the question's text and options
alone."""

from collections.abc import Sequence

from medpipe.language.options import PromptConfig
from medpipe.metrics.question_forms import Option, QuestionKind


def make_prompt(config: PromptConfig, kind: QuestionKind, text: str, options: Sequence[Option]) -> str:
    """The prompt of one question; options that its text does not list already are listed below it."""
    template = config.by_kind.get(kind, config.template)
    listed = "\n".join(str(option) for option in options)
    question = text
    if options and "{options}" not in template and not all(option.text in text for option in options):
        question = f"{text}\n{listed}"
    return template.replace("{options}", listed).replace("{question}", question)
