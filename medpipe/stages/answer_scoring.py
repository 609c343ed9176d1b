"""Score the answers of one or more models by medpipe's rules and by those of others, and what perturbations change.

takes   the answers of stages of kind question_answering; the same questions perturbed
leaves  scores.csv (one row a model and question), summary.json, examples.json, differences.json
"""

from dataclasses import asdict
from typing import Any, ClassVar, Literal, final

from pydantic import Field, field_validator

from medpipe.config.base import StageRef
from medpipe.language.options import GenerationConfig, ServerModel
from medpipe.metrics.answer_text import said
from medpipe.stages.stage import Stage, StageRun

SCORES_FILE, SUMMARY_FILE, EXAMPLES_FILE = "scores.csv", "summary.json", "examples.json"
DIFFERENCES_FILE = "differences.json"


@final
class AnswerScoring(Stage):
    """Accuracy with intervals by task, group and over all, baselines, confusion, rates of what could not be read."""

    version: ClassVar[int] = 2  # readings of further wordings
    takes: ClassVar[dict[str, tuple[str, ...]]] = {
        "answers": ("question_answering",),
        "perturbed": ("question_answering",),
    }

    stage: Literal["answer_scoring"]
    answers: tuple[StageRef, ...] = Field(min_length=1, description="models, the one of interest first")
    perturbed: tuple[StageRef, ...] = Field((), description="the first model on the same questions, perturbed")
    rules: tuple[str, ...] = Field(
        (), description="others beside medpipe's: colon_x, colon_x_reasoning, substring, exact"
    )
    judge: ServerModel | None = Field(
        None, description="asked where a published rule finds several answers; without it such items score 0 there"
    )
    examples: int = Field(3, ge=0, description="of each task and model kept for the report, wrong and unreadable first")

    @field_validator("rules")
    @classmethod
    def _rules_exist(cls, rules: tuple[str, ...]) -> tuple[str, ...]:
        from medpipe.metrics.answer_rules import rule_of

        for rule in rules:
            rule_of(rule)
        return rules

    def run(self, run: StageRun) -> None:
        from medpipe.geometry.atomic import written_beside
        from medpipe.reporting.answer_tables import print_answer_table
        from medpipe.stages.answer_examples import list_differences, pick_examples
        from medpipe.stages.answer_summary import distinct_titles, reliabilities, set_summary
        from medpipe.stages.answer_tables import ScoreWriter, answered_set, read_item_scores, score_set

        judge = None if self.judge is None else ServerJudge(self.judge)
        sets = [answered_set(run.folder_of(ref)) for ref in (*self.answers, *self.perturbed)]
        sets = distinct_titles(sets)
        total = sum(answered.facts["questions"] for answered in sets)
        summaries: list[dict[str, Any]] = []
        tables = {}
        with (
            written_beside(run.path(SCORES_FILE)) as partial,
            partial.open("w", encoding="utf-8", newline="") as file,
            run.output.progress("scoring", total) as progress,
        ):
            writer = ScoreWriter(file, self.rules)
            for answered in sets:
                before = (0, 0) if judge is None else (judge.calls, judge.failed)
                scores = score_set(answered, self.rules, writer, progress.advance, judge)
                run.stop_if_asked()
                rows = scores.tally.table(seed=run.seed, groups=list(answered.vocabulary.groups))
                summaries.append(set_summary(answered, scores, rows))
                if judge is not None:
                    summaries[-1]["notes"] += judge.notes_since(*before)
                if not answered.perturbation:
                    tables[answered.title] = rows
        items = read_item_scores(run.path(SCORES_FILE))
        changes = reliabilities(items, sets[0].title, seed=run.seed)
        run.write_json(
            SUMMARY_FILE,
            {"sets": summaries, "rules": list(self.rules), "reliability": [asdict(change) for change in changes]},
        )
        examples = [
            example
            for answered in sets[: len(self.answers)]
            for example in pick_examples(answered, run.path(SCORES_FILE), self.rules, self.examples)
        ]
        run.write_json(EXAMPLES_FILE, examples)
        run.write_json(DIFFERENCES_FILE, list_differences(sets[0], run.path(SCORES_FILE), self.rules))
        print_answer_table(tables, run.output.console)
        for answered, summary in zip(sets, summaries, strict=True):
            for note in summary["notes"]:
                run.output.warn(f"{answered.title}: {note}")


JUDGE_PROMPT = (
    "A question and a model's answer to it follow. Say which single option, yes or no the answer finally gives, in the "
    "question's own words; say 'undecidable' if it gives none or several. Write nothing else.\n\nQuestion: "
    "{question}\n\n"
    "Answer: {answer}"
)


@final
class ServerJudge:
    """A judge for published rules behind a server: ValueError where it gives no answer, ModelGone where it is away.

    Refused questions are counted: the published engine goes on without a word then.
    """

    def __init__(self, config: ServerModel) -> None:
        from medpipe.language.server import Server

        self.server = Server(config, GenerationConfig(max_new_tokens=1024))
        self.calls = self.failed = 0
        self.reason = ""

    def __call__(self, question: str, answer: str) -> str:
        self.calls += 1
        try:
            return said(self.server.answer([], JUDGE_PROMPT.format(question=question, answer=answer)), "stop").text
        except ValueError as error:
            self.failed += 1
            self.reason = str(error)
            raise

    def notes_since(self, calls: int, failed: int) -> list[str]:
        """What has to be known of the calls after so many; [] where all were answered."""
        if self.failed == failed:
            return []
        return [
            f"{self.failed - failed} of {self.calls - calls} calls of the judge failed (last: {self.reason}); there "
            "the published rule decides as its engine does without a judge's answer"
        ]
