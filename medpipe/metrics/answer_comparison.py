"""Do two models answer the same questions differently well? Exact McNemar, and the bootstrap over clusters of pairs."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal, final

import numpy as np

from medpipe.metrics.intervals import NO_INTERVAL, Interval, cluster_sums, percentiles, resampled

Correction = Literal["bh", "holm"]
CORRECTIONS = {"bh": ("fdr_bh", "Benjamini-Hochberg"), "holm": ("holm", "Holm")}


@final
@dataclass(frozen=True, slots=True)
class ItemScore:
    """One item of one model, as far as a comparison needs it."""

    task: str
    cluster: str
    right: bool
    score: float


@final
@dataclass(frozen=True)
class AnswerTest:
    """Two models on the questions that both answered in one scope. Differences are `second` - `first`.

    only_first, only_second   discordant items: right in one model alone (McNemar's b and c)
    interval                  of the difference of mean scores, clusters resampled whole
    """

    scope: str  # a task, or "overall"
    first: str
    second: str
    n: int
    clusters: int
    first_score: float
    second_score: float
    difference: float
    interval: Interval
    only_first: int
    only_second: int
    p: float
    p_adjusted: float = math.nan


@final
@dataclass(frozen=True)
class AnswerComparison:
    """All pairs of models, with what a reader needs to judge them."""

    models: tuple[str, ...]
    tests: tuple[AnswerTest, ...]
    correction: Correction
    alpha: float
    seed: int
    notes: tuple[str, ...]

    def methods(self) -> tuple[str, ...]:
        """How the numbers were made."""
        return (
            "Paired by question: only questions that both models of a pair were asked are compared.",
            "p: exact McNemar test on the questions that one model alone has right (doi:10.1007/BF02295996); it takes "
            "questions as independent, so where several are of one image read the interval first.",
            "Interval: 95 % percentile bootstrap of the difference of mean scores; images, patients or videos "
            "are drawn "
            f"whole (seed {self.seed}).",
            f"Family: {len(self.tests)} tests (scope x pair of models), corrected together by "
            f"{CORRECTIONS[self.correction][1]}, significant at an adjusted p of {self.alpha:g} or less.",
        )


def mcnemar_p(only_first: int, only_second: int) -> float:
    """Two-sided exact p of McNemar's test; 1 where no item tells the models apart."""
    from scipy.stats import binomtest

    discordant = only_first + only_second
    return 1.0 if discordant == 0 else float(binomtest(only_first, discordant, 0.5).pvalue)


def compare_answers(
    models: Mapping[str, Mapping[str, ItemScore]], *, correction: Correction = "holm", alpha: float = 0.05,
        seed: int = 0,
    against: str | None = None,
) -> AnswerComparison:  # fmt: skip
    """Compare models (name -> question id -> score) pair by pair, over all and for each task.

    against   test every other model against this one only

    Raises ValueError: fewer than two models, an unknown one, no question in common.
    """
    if len(models) < 2:
        raise ValueError(f"a comparison needs two models or more, got {list(models) or 'none'}")
    if against is not None and against not in models:
        raise ValueError(f"no model {against!r} to compare with; there are {', '.join(models)}")
    notes: list[str] = []
    tests: list[AnswerTest] = []
    for first, second in combinations(models, 2):
        if against is not None and against not in (first, second):
            continue
        pair = (second, first) if second == against else (first, second)
        tests += _pair(pair, models, notes, seed)
    return AnswerComparison(tuple(models), tuple(adjusted(tests, correction)), correction, alpha, seed, tuple(notes))


def _pair(
    pair: tuple[str, str], models: Mapping[str, Mapping[str, ItemScore]], notes: list[str], seed: int
) -> list[AnswerTest]:
    first, second = pair
    common = [question for question in models[first] if question in models[second]]
    if not common:
        raise ValueError(f"{first} and {second} have no question in common, so nothing can be paired")
    left_out = len(models[first]) + len(models[second]) - 2 * len(common)
    if left_out:
        notes.append(f"{first} and {second}: {len(common)} questions in common, {left_out} of one alone are left out.")
    items = [(models[first][question], models[second][question]) for question in common]
    tasks = list(dict.fromkeys(item.task for item, _ in items))
    scopes = [("overall", items)]
    if len(tasks) > 1:
        scopes += [(task, [item for item in items if item[0].task == task]) for task in tasks]
    return [_test(scope, first, second, chosen, seed) for scope, chosen in scopes]


def _test(scope: str, first: str, second: str, items: Sequence[tuple[ItemScore, ItemScore]], seed: int) -> AnswerTest:
    scores = np.array([[a.score, b.score] for a, b in items])
    names = {name: index for index, name in enumerate(dict.fromkeys(a.cluster for a, _ in items))}
    clusters = np.array([names[a.cluster] for a, _ in items])
    only_first = sum(a.right and not b.right for a, b in items)
    only_second = sum(b.right and not a.right for a, b in items)
    return AnswerTest(
        scope=scope,
        first=first,
        second=second,
        n=len(items),
        clusters=len(names),
        first_score=float(scores[:, 0].mean()),
        second_score=float(scores[:, 1].mean()),
        difference=float(scores[:, 1].mean() - scores[:, 0].mean()),
        interval=difference_interval(clusters, scores[:, 1] - scores[:, 0], seed),
        only_first=only_first,
        only_second=only_second,
        p=mcnemar_p(only_first, only_second),
    )


def difference_interval(clusters: np.ndarray, differences: np.ndarray, seed: int) -> Interval:
    """95 % percentile interval of a mean difference over items, clusters drawn whole; NaN for fewer than two
    clusters."""
    rows = cluster_sums(clusters, differences)
    if len(rows) < 2:
        return NO_INTERVAL
    sums = resampled(rows, seed=seed)
    return percentiles(sums[:, 1] / sums[:, 0])


def adjusted(tests: Sequence[AnswerTest], correction: Correction) -> list[AnswerTest]:
    """The tests with their p adjusted over all of them."""
    from statsmodels.stats.multitest import multipletests

    if correction not in CORRECTIONS:
        raise ValueError(f"correction {correction!r} is unknown, expected one of {', '.join(CORRECTIONS)}")
    if not tests:
        return []
    values = np.asarray(
        multipletests([test.p for test in tests], method=CORRECTIONS[correction][0])[1], dtype=np.float64
    )
    return [replace(test, p_adjusted=float(value)) for test, value in zip(tests, values, strict=True)]


@final
@dataclass(frozen=True)
class Reliability:
    """What a perturbation of the same questions does to one model."""

    model: str
    perturbation: str
    n: int
    before: float
    after: float
    right_to_wrong: int
    wrong_to_right: int
    interval: Interval  # of after - before, clusters drawn whole
    p: float  # exact McNemar

    @property
    def change(self) -> float:
        """Perturbed less original."""
        return self.after - self.before


def reliability(
    model: str,
    perturbation: str,
    original: Mapping[str, ItemScore],
    perturbed: Mapping[str, ItemScore],
    *,
    seed: int = 0,
) -> Reliability:
    """Original and perturbed answers, both by the original's id. ValueError where no pair is complete."""
    common = [question for question in original if question in perturbed]
    if not common:
        raise ValueError(f"{model}, {perturbation}: no perturbed question belongs to an original one")
    test = _test("overall", "original", perturbation, [(original[id_], perturbed[id_]) for id_ in common], seed)
    return Reliability(
        model=model,
        perturbation=perturbation,
        n=test.n,
        before=test.first_score,
        after=test.second_score,
        right_to_wrong=test.only_first,
        wrong_to_right=test.only_second,
        interval=test.interval,
        p=test.p,
    )
