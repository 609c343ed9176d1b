"""What may be wrong with a question's own reference: it must be readable by the rules that answers are read by."""

from collections.abc import Sequence

from medpipe.metrics.answers import canonical_reference
from medpipe.metrics.question_forms import AnswerForm, Names, Option, QuestionKind


def reference_fault(kind: QuestionKind, reference: str, options: Sequence[Option], names: Names) -> str:
    """Why the question cannot be scored, or ""."""
    if not reference.strip():
        return "the reference is empty"
    if kind == "options":
        if len(options) < 2:
            return f"a question of kind options lists {len(options)} of them; write them as <A> text, <B> text"
        texts = [option.text.casefold() for option in options]
        if len(set(texts)) < len(texts) or len({option.letter for option in options}) < len(options):
            return f"two options are the same: {', '.join(str(option) for option in options)}"
    try:
        canonical_reference(AnswerForm(kind, options=tuple(options), names=names), reference)
    except ValueError as error:
        return str(error)
    return ""
