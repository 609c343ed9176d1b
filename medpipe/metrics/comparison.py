"""Do two or more models differ? Paired by patient, tested on ranks, corrected over a family of tests that is stated."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING, Literal, TypeVar, final

import numpy as np

from medpipe.metrics.aggregation import GROUP_COLUMNS, per_patient
from medpipe.metrics.definitions import METRICS
from medpipe.metrics.rank_tests import (
    Values,
    friedman,
    paired_differences,
    rank_biserial,
    sign_flip_p,
    signed_ranks,
    smallest_num_pairs,
)
from medpipe.metrics.score_kinds import OF_PHASES, OF_STRUCTURES, ScoreKind, kind_of, phase_arms

if TYPE_CHECKING:
    import pandas as pd

Correction = Literal["bh", "holm"]
CORRECTIONS: Mapping[str, str] = {"bh": "Benjamini-Hochberg", "holm": "Holm"}


@final
@dataclass(frozen=True)
class PairedTest:
    """Two arms on one structure and metric. Differences are `second` - `first`.

    n              patients with a defined score in every arm; `undefined` of them have none in some arm
    finite         of n, with finite scores in both; mean_difference, ci_low, ci_high are over these
    median_difference   order statistic over all n, infinite ones in their place
    effect         matched-pairs rank-biserial correlation, positive where `second` is higher
    refusal        why there is no p, or ""
    """

    structure: str
    metric: str
    first: str
    second: str
    n: int
    undefined: int
    finite: int
    mean_difference: float
    ci_low: float
    ci_high: float
    median_difference: float
    effect: float
    p: float
    p_adjusted: float
    refusal: str
    differences: tuple[float, ...]  # one a patient, for the figure


@final
@dataclass(frozen=True)
class OmnibusTest:
    """Friedman's test over all arms of one structure and metric; `refusal` as above."""

    structure: str
    metric: str
    n: int
    statistic: float
    kendall_w: float
    p: float
    p_adjusted: float
    refusal: str


@final
@dataclass(frozen=True)
class Comparison:
    """What `compare_scores` found, with everything that a reader needs to judge it."""

    arms: tuple[str, ...]
    pairs: tuple[PairedTest, ...]
    omnibus: tuple[OmnibusTest, ...]  # empty for two arms
    alpha: float
    correction: Correction
    seed: int
    num_bootstraps: int
    num_patients: int
    definition: str
    notes: tuple[str, ...]

    def methods(self) -> tuple[str, ...]:
        """How the numbers were made, one sentence each; the family of tests among them."""
        num_tested = sum(not pair.refusal for pair in self.pairs)
        num_refused = len(self.pairs) - num_tested
        two = "Two models: Wilcoxon signed-rank test, zeros by Pratt, exact distribution given the ties."
        more = (
            "Three or more models: Friedman's test over all, then for each pair the exact sign-flip permutation of the "
            "differences between the ranks that a patient's scores take among all models."
        )
        return (
            f"Paired by patient: {self.num_patients} patients; several examinations of one are averaged first.",
            more if self.omnibus else two,
            f"Family: {num_tested} paired tests (structure x metric x pair of models), {num_refused} refused; "
            f"corrected together by {CORRECTIONS[self.correction]}, significant at an adjusted p of {self.alpha:g} or "
            "less.",
            *(["Friedman's tests are corrected by the same method, as a family of their own."] if self.omnibus else []),
            "Effect: matched-pairs rank-biserial correlation, -1 to 1, positive where the second model's score is "
            "higher" + ("; Kendall's W for Friedman's test." if self.omnibus else "."),
            f"Interval: 95 % bootstrap interval (BCa, {self.num_bootstraps} resamples of patients, seed {self.seed}) "
            "of the mean difference over patients with finite scores in both; tests use all, infinite ones by rank.",
            f"Definition of the scores: {self.definition}.",
        )


Test = TypeVar("Test", PairedTest, OmnibusTest)


def arms_of(scores: "pd.DataFrame", name: str) -> dict[str, "pd.DataFrame"]:
    """Each model and labelled share of one table of scores, by a name of its own: `name` where there is only one."""
    check_definition(scores)
    if kind_of(scores.columns) is OF_PHASES:
        return phase_arms(scores, name)
    patients = per_patient(scores)
    arms = list(patients.groupby(list(GROUP_COLUMNS), sort=False))
    several_shares = len(set(patients["labelled_share"])) > 1
    named = {}
    for (model, share), rows in arms:  # type: ignore[misc]
        title = f"{model} at {100 * float(share):g} %" if several_shares else str(model)
        named[name if len(arms) == 1 else title] = rows
    return named


def check_definition(scores: "pd.DataFrame") -> None:
    """Refuse scores that were made by another definition, or do not say by which."""
    kind = kind_of(scores.columns)
    if "definition" not in scores.columns:
        others = {
            OF_STRUCTURES: "distances of other tools differ by more than 100 mm on the same masks",
            OF_PHASES: "other tools count segments and undefined phases in other ways",
        }
        raise ValueError(
            f"the scores do not say how they were made (no column 'definition', expected {kind.definition!r}); "
            f"{others[kind]}, so score the predictions again with medpipe"
        )
    found = sorted({str(value) for value in scores["definition"]})
    if found != [kind.definition]:
        raise ValueError(
            f"the scores were made by the definition {found}, expected {kind.definition!r}; score them again"
        )


def compare_scores(
    arms: Mapping[str, "pd.DataFrame"],
    *,
    kind: ScoreKind = OF_STRUCTURES,
    metrics: Sequence[str] = (),
    structures: Sequence[str] = (),
    against: str | None = None,
    correction: Correction = "bh",
    alpha: float = 0.05,
    num_bootstraps: int = 10_000,
    seed: int = 0,
    allow_unpaired: bool = False,
) -> Comparison:
    """Compare the arms (name -> one row a structure and patient, as `arms_of` gives them) pair by pair.

    kind          what the scores are of
    metrics       empty: the two that this kind is compared by
    structures    only these; empty: all that every arm has
    against       test every other arm against this one only; the family is smaller then

    Raises ValueError: fewer than two arms, an unknown name, different patients (unless `allow_unpaired`).
    """
    metrics = metrics or kind.defaults
    _check_options(arms, kind, metrics, structures, against, correction)
    notes: list[str] = []
    patients = _common_patients(arms, allow_unpaired, notes)
    tables = {
        (structure, metric): _values(arms, structure, metric, patients)
        for structure in _common_structures(arms, structures, notes)
        for metric in metrics
    }
    names = list(arms)
    chosen = [
        (a, b) for a, b in combinations(range(len(names)), 2) if against is None or against in (names[a], names[b])
    ]
    if against is not None:  # differences read "this arm less the one it is compared with"
        chosen = [(a, b) if names[a] == against else (b, a) for a, b in chosen]
    pairs = [
        _test_pair(structure, metric, names, pair, values, num_bootstraps, seed)
        for (structure, metric), values in tables.items()
        for pair in chosen
    ]
    omnibus = [_test_all(*key, values, alpha) for key, values in tables.items()] if len(names) > 2 else []
    return Comparison(
        arms=tuple(names),
        pairs=tuple(_adjusted(_with_refusals(pairs, alpha, correction), correction)),
        omnibus=tuple(_adjusted(omnibus, correction)),
        alpha=alpha,
        correction=correction,
        seed=seed,
        num_bootstraps=num_bootstraps,
        num_patients=len(patients),
        definition=kind.definition,
        notes=tuple(notes),
    )


def _check_options(
    arms: Mapping[str, "pd.DataFrame"],
    kind: ScoreKind,
    metrics: Sequence[str],
    structures: Sequence[str],
    against: str | None,
    correction: str,
) -> None:
    if len(arms) < 2:
        raise ValueError(f"a comparison needs two models or more, got {list(arms) or 'none'}")
    if against is not None and against not in arms:
        raise ValueError(f"no model {against!r} to compare with; the scores hold {list(arms)}")
    if correction not in CORRECTIONS:
        raise ValueError(f"correction {correction!r} is unknown, expected one of {', '.join(CORRECTIONS)}")
    for what, names in (("metrics", metrics), ("structures", structures)):
        if len(set(names)) < len(names):  # the same test twice would be corrected for as if it were two
            raise ValueError(f"{what} must differ, got {', '.join(names)}")
    for metric in metrics:
        without = [name for name, rows in arms.items() if metric not in rows.columns]
        if without or metric not in METRICS:
            where = f" in the scores of {', '.join(without)}" if metric in METRICS else ""
            raise ValueError(f"no metric {metric!r}{where}; known are {', '.join(kind.metrics)}")


def _common_patients(arms: Mapping[str, "pd.DataFrame"], allow_unpaired: bool, notes: list[str]) -> list[str]:
    """The patients of every arm; others are refused, or counted in the notes."""
    found = {name: set(rows["patient_id"].astype(str)) for name, rows in arms.items()}
    common = set.intersection(*found.values())
    for name in found:
        elsewhere = sorted(set.union(*found.values()) - found[name])
        if elsewhere:
            text = f"{name} lacks {len(elsewhere)} patients that others have: {', '.join(elsewhere[:8])}"
            if not allow_unpaired:
                raise ValueError(f"{text}; score the same patients, or leave these out with --allow-unpaired")
            notes.append(f"{text}; left out.")
    if not common:
        raise ValueError("the models have no patient in common, so nothing can be paired")
    return sorted(common)


def _common_structures(arms: Mapping[str, "pd.DataFrame"], structures: Sequence[str], notes: list[str]) -> list[str]:
    """The structures that every arm has, in the order of the first; the rest is refused if asked for, else counted."""
    found = {name: list(dict.fromkeys(rows["structure"])) for name, rows in arms.items()}
    every = list(dict.fromkeys(structure for names in found.values() for structure in names))
    common = []
    for structure in structures or every:
        lacking = [name for name, names in found.items() if structure not in names]
        if not lacking:
            common.append(structure)
        elif structures:
            raise ValueError(f"no structure {structure!r} in the scores of {', '.join(lacking)}; they hold {every}")
        else:
            notes.append(f"{structure} is not compared: no scores of {', '.join(lacking)}.")
    if not common:
        raise ValueError(f"the models have no structure in common: {found}")
    return common


def _values(arms: Mapping[str, "pd.DataFrame"], structure: str, metric: str, patients: Sequence[str]) -> Values:
    """(patients, arms); NaN where a patient has no such score."""
    columns = []
    for rows in arms.values():
        mine = rows[rows["structure"] == structure]
        by_patient = dict(zip(mine["patient_id"].astype(str), mine[metric].astype(float), strict=True))
        columns.append([by_patient.get(patient, math.nan) for patient in patients])
    return np.array(columns, dtype=np.float64).T


def _test_pair(
    structure: str,
    metric: str,
    names: Sequence[str],
    pair: tuple[int, int],
    values: Values,
    num_bootstraps: int,
    seed: int,
) -> PairedTest:
    """One test, not yet corrected. With more than two arms its ranks are those among all arms."""
    from scipy.stats import rankdata

    is_defined = ~np.isnan(values).any(axis=1)
    kept = values[is_defined]
    first, second = kept[:, pair[0]], kept[:, pair[1]]
    differences = paired_differences(first, second)
    finite = differences[np.isfinite(first) & np.isfinite(second)]
    ranks = signed_ranks(differences)
    if len(names) > 2:
        among_all = rankdata(kept, axis=1) if len(kept) else kept
        p = sign_flip_p(among_all[:, pair[1]] - among_all[:, pair[0]])
    else:
        p = sign_flip_p(ranks)
    low, high = mean_interval(finite, num_bootstraps, seed)
    return PairedTest(
        structure=structure,
        metric=metric,
        first=names[pair[0]],
        second=names[pair[1]],
        n=len(kept),
        undefined=int(np.count_nonzero(~is_defined)),
        finite=len(finite),
        mean_difference=float(finite.mean()) if len(finite) else math.nan,
        ci_low=low,
        ci_high=high,
        median_difference=_median(differences),
        effect=rank_biserial(ranks),
        p=p,
        p_adjusted=math.nan,
        refusal="",
        differences=tuple(float(value) for value in differences),
    )


def mean_interval(differences: Values, num_bootstraps: int, seed: int) -> tuple[float, float]:
    """95 % bootstrap interval of the mean (BCa: Efron, 1987, doi:10.1080/01621459.1987.10478410).

    NaN for fewer than three values or no resamples; the value itself where all are equal.
    """
    from scipy.stats import bootstrap

    if len(differences) < 3 or num_bootstraps < 1:
        return math.nan, math.nan
    if np.ptp(differences) == 0:
        return float(differences[0]), float(differences[0])
    found = bootstrap(
        (differences,),
        np.mean,
        n_resamples=num_bootstraps,
        method="BCa",
        rng=np.random.default_rng(seed),
        batch=max(1, 2_000_000 // len(differences)),
    ).confidence_interval
    return float(found.low), float(found.high)


def _median(differences: Values) -> float:
    """The middle value; between -inf and inf there is none."""
    ordered = np.sort(differences)
    if not len(ordered):
        return math.nan
    low, high = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    return float(low) if low == high else float((low + high) / 2)


def _test_all(structure: str, metric: str, values: Values, alpha: float) -> OmnibusTest:
    """Friedman's test; refused where even perfect agreement, a statistic of n (k - 1), would not reach alpha."""
    from scipy.stats import chi2

    kept = values[~np.isnan(values).any(axis=1)]
    freedom = values.shape[1] - 1
    fewest = next(n for n in range(1, 10_000) if chi2.sf(n * freedom, freedom) <= alpha)
    if len(kept) < fewest:
        refusal = too_few(len(kept), fewest)
        return OmnibusTest(structure, metric, len(kept), math.nan, math.nan, math.nan, math.nan, refusal)
    found = friedman(kept)
    return OmnibusTest(structure, metric, len(kept), found.statistic, found.kendall_w, found.p, math.nan, "")


def too_few(n: int, fewest: int) -> str:
    """The sentence that stands in place of a p."""
    return f"too few patients: {n}, at least {fewest} could show a difference"


def _with_refusals(pairs: Sequence[PairedTest], alpha: float, correction: Correction) -> list[PairedTest]:
    """Take the p from tests that could not have become significant whatever the scores.

    Benjamini-Hochberg lets every p up to alpha through where all are small; Holm asks alpha / m of the smallest.
    """
    fewest = smallest_num_pairs(alpha)
    if correction == "holm":
        num_tests = sum(pair.n >= fewest for pair in pairs)
        fewest = smallest_num_pairs(alpha / max(1, num_tests))
    return [replace(pair, p=math.nan, refusal=too_few(pair.n, fewest)) if pair.n < fewest else pair for pair in pairs]


def _adjusted(tests: Sequence[Test], correction: Correction) -> list[Test]:
    """The tests with their p adjusted over all that were not refused."""
    from statsmodels.stats.multitest import multipletests

    tested = [test.p for test in tests if not test.refusal]
    method = {"bh": "fdr_bh", "holm": "holm"}[correction]
    adjusted = iter(np.asarray(multipletests(tested, method=method)[1], dtype=np.float64) if tested else ())
    return [test if test.refusal else replace(test, p_adjusted=float(next(adjusted))) for test in tests]
