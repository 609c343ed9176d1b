"""Scores of answers, one at a time: what is kept of a million of them, and the tables that it makes."""

import math
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from medpipe.metrics.answer_extraction import STATUSES
from medpipe.metrics.intervals import NO_INTERVAL, Interval, macro_interval, mean_interval, wilson

Bools = NDArray[np.bool_]


@final
@dataclass(frozen=True, slots=True)
class ScoredAnswer:
    """One question with its answer scored. Labels are what a confusion matrix counts: option texts, names, yes or no.

    chance      expected score of guessing among the possible answers; NaN of open kinds
    others      score under each of the other rules, None where a rule does not apply
    """

    question_id: str
    task: str
    group: str
    kind: str
    cluster: str
    reference: str
    extracted: str
    status: str
    rule: str
    right: bool
    score: float
    chance: float = math.nan
    token_f1: float | None = None
    others: tuple[float | None, ...] = ()
    judged: tuple[bool, ...] = ()


@final
@dataclass(frozen=True)
class ScopeScores:
    """What a table's row says of a task, a group or everything. Shares are of all n items, answered or not."""

    scope: str  # "task", "group" or "overall"
    name: str
    kind: str
    n: int
    clusters: int
    score: float
    wilson: Interval  # NaN where scores are not all 0 or 1
    bootstrap: Interval
    balanced: float  # mean recall over the reference's classes; NaN of open kinds
    majority: float  # what always giving the most frequent reference scores
    majority_answer: str
    chance: float
    token_f1: float
    statuses: Mapping[str, int]
    others: Mapping[str, float]  # rule -> mean score over the items that it applies to
    other_n: Mapping[str, int]
    judged: Mapping[str, int]  # rule -> items that its judge would have been asked about


@final
@dataclass
class AnswerTally:
    """Sums of scored answers; `rules` names the other rules in the order of `ScoredAnswer.others`."""

    rules: Sequence[str] = ()
    tasks: dict[str, int] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)  # task -> group
    kinds: dict[str, str] = field(default_factory=dict)
    clusters: dict[str, int] = field(default_factory=dict)
    confusion: dict[str, Counter[tuple[str, str]]] = field(default_factory=dict)
    task_of: array = field(default_factory=lambda: array("H"))
    cluster_of: array = field(default_factory=lambda: array("I"))
    scores: array = field(default_factory=lambda: array("f"))
    chances: array = field(default_factory=lambda: array("f"))
    f1s: array = field(default_factory=lambda: array("f"))
    statuses: array = field(default_factory=lambda: array("B"))
    others: list[array] = field(default_factory=list)
    judged: list[array] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.others = [array("f") for _ in self.rules]
        self.judged = [array("B") for _ in self.rules]

    def add(self, scored: ScoredAnswer) -> None:
        """Count one answer."""
        task = self.tasks.setdefault(scored.task, len(self.tasks))
        self.groups[scored.task], self.kinds[scored.task] = scored.group, scored.kind
        self.task_of.append(task)
        self.cluster_of.append(self.clusters.setdefault(scored.cluster or scored.question_id, len(self.clusters)))
        self.scores.append(scored.score)
        self.chances.append(scored.chance)
        self.f1s.append(math.nan if scored.token_f1 is None else scored.token_f1)
        self.statuses.append(STATUSES.index(scored.status))
        for index, value in enumerate(scored.others):
            self.others[index].append(math.nan if value is None else value)
            self.judged[index].append(scored.judged[index])
        if scored.kind not in ("box", "text"):
            given = scored.extracted if scored.status == "answered" else f"({scored.status})"
            self.confusion.setdefault(scored.task, Counter())[scored.reference, given] += 1

    def __len__(self) -> int:
        return len(self.scores)

    def table(self, *, seed: int = 0, groups: Sequence[str] = ()) -> list[ScopeScores]:
        """A row a task, a group, and everything: micro over items, macro over tasks. `groups` gives an order."""
        arrays = _Arrays(self)
        every = np.ones(len(self), dtype=bool)
        rows = [
            self._row("task", task, arrays.tasks == index, arrays, [task], seed) for task, index in self.tasks.items()
        ]
        present = list(dict.fromkeys([*groups, *self.groups.values()]))
        for group in present:
            members = [task for task in self.tasks if self.groups[task] == group]
            if group and members:
                chosen = np.isin(arrays.tasks, [self.tasks[task] for task in members])
                rows.append(self._row("group", group, chosen, arrays, members, seed))
        if len(self):
            rows.append(self._row("overall", "micro", every, arrays, list(self.tasks), seed))
            rows.append(_macro(rows, arrays, seed))
        return rows

    def _row(
        self, scope: str, name: str, chosen: Bools, arrays: "_Arrays", tasks: Sequence[str], seed: int
    ) -> ScopeScores:
        n = int(chosen.sum())
        scores, clusters = arrays.scores[chosen], arrays.clusters[chosen]
        is_share = bool(np.isin(scores, (0.0, 1.0)).all())
        majorities = {task: self._majority(task) for task in tasks if task in self.confusion}
        counted = sum(sum(self.confusion[task].values()) for task in majorities)
        right = sum(count for count, _ in majorities.values())
        statuses = np.bincount(arrays.statuses[chosen], minlength=len(STATUSES))
        others = {rule: arrays.others[index][chosen] for index, rule in enumerate(self.rules)}
        return ScopeScores(
            scope=scope,
            name=name,
            kind=self.kinds[tasks[0]] if scope == "task" else "",
            n=n,
            clusters=len(np.unique(clusters)),
            score=float(scores.mean()) if n else math.nan,
            wilson=wilson(float(scores.sum()), n) if is_share else NO_INTERVAL,
            bootstrap=mean_interval(clusters, scores, seed=seed),
            balanced=balanced_accuracy(self.confusion[name])
            if scope == "task" and name in self.confusion
            else math.nan,
            majority=right / counted if counted == n and n else math.nan,
            majority_answer=majorities[name][1] if scope == "task" and name in majorities else "",
            chance=_mean(arrays.chances[chosen]) if not np.isnan(arrays.chances[chosen]).any() else math.nan,
            token_f1=_mean(arrays.f1s[chosen]),
            statuses={status: int(count) for status, count in zip(STATUSES, statuses, strict=True)},
            others={rule: _mean(values) for rule, values in others.items()},
            other_n={rule: int(np.count_nonzero(~np.isnan(values))) for rule, values in others.items()},
            judged={rule: int(arrays.judged[index][chosen].sum()) for index, rule in enumerate(self.rules)},
        )

    def _majority(self, task: str) -> tuple[int, str]:
        """How many references the most frequent one is, and which."""
        references: Counter[str] = Counter()
        for (reference, _), count in self.confusion[task].items():
            references[reference] += count
        ((answer, count),) = references.most_common(1)
        return count, answer


class _Arrays:
    """A tally's columns as numpy arrays."""

    def __init__(self, tally: AnswerTally) -> None:
        self.tasks = np.array(tally.task_of, dtype=np.int64)
        self.clusters = np.array(tally.cluster_of, dtype=np.int64)
        self.scores = np.array(tally.scores, dtype=np.float64)
        # Views of what the tally holds: of a million answers each further copy is megabytes.
        self.chances = np.frombuffer(tally.chances, dtype=np.float32) if len(tally) else np.empty(0)
        self.f1s = np.frombuffer(tally.f1s, dtype=np.float32) if len(tally) else np.empty(0)
        self.statuses = np.frombuffer(tally.statuses, dtype=np.uint8) if len(tally) else np.empty(0, dtype=np.uint8)
        self.others = [
            np.frombuffer(column, dtype=np.float32) if len(tally) else np.empty(0) for column in tally.others
        ]
        self.judged = [np.frombuffer(column, dtype=np.uint8) if len(tally) else np.empty(0) for column in tally.judged]


def _macro(rows: Sequence[ScopeScores], arrays: _Arrays, seed: int) -> ScopeScores:
    """The mean over tasks of what each task scores."""
    tasks = [row for row in rows if row.scope == "task"]
    micro = rows[-1]
    return ScopeScores(
        scope="overall",
        name="macro",
        kind="",
        n=micro.n,
        clusters=micro.clusters,
        score=_mean([row.score for row in tasks]),
        wilson=NO_INTERVAL,
        bootstrap=macro_interval(arrays.clusters, arrays.tasks, arrays.scores, seed=seed),
        balanced=math.nan,
        majority=float(np.mean([row.majority for row in tasks])),
        majority_answer="",
        chance=float(np.mean([row.chance for row in tasks])),
        token_f1=math.nan,
        statuses=micro.statuses,
        others={rule: _mean([row.others[rule] for row in tasks]) for rule in micro.others},
        other_n=micro.other_n,
        judged=micro.judged,
    )


def balanced_accuracy(confusion: Mapping[tuple[str, str], int]) -> float:
    """Mean recall over the classes that the references hold."""
    totals: Counter[str] = Counter()
    hits: Counter[str] = Counter()
    for (reference, given), count in confusion.items():
        totals[reference] += count
        hits[reference] += count if given == reference else 0
    return float(np.mean([hits[name] / total for name, total in totals.items()])) if totals else math.nan


def _mean(values: "Sequence[float] | NDArray[Any]") -> float:
    array_ = np.asarray(values, dtype=np.float64)
    known = array_[~np.isnan(array_)]
    return float(known.mean()) if len(known) else math.nan
