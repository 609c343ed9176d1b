"""`medpipe dose`: dose in structures, EQD2 of a course against planning aims, predicted against reference contours."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medpipe.engine.dose_plan import DosePlan, checked_manifest, wrong

FILES = ("dose.csv", "dvh.csv", "differences.csv", "summary.json", "dose.html")


def dose_command(plan: DosePlan, *, output: Path, force: bool = False, as_json: bool = False) -> int:
    """Compute a course, print it, and leave FILES in `output` (differences.csv where contours are predicted).

    Raises ConfigError for a plan that is wrong and DataFault for data that are; nothing is written then.
    """
    from rich.console import Console

    from medpipe.reporting.dose import print_dose, write_dose_report

    if not force and (output / "summary.json").exists():
        raise wrong(f"{output} holds results already; give another --output, or --force")
    course = compute_course(plan)
    output.mkdir(parents=True, exist_ok=True)
    _write_tables(course, output)
    summary = summary_of(course, plan)
    _write_json(output / "summary.json", summary)
    write_dose_report(output / "dose.html", course)
    if as_json:
        print(json.dumps(summary, indent=2))
        return 0
    console = Console()
    print_dose(course, console)
    console.print(
        f"written: {', '.join(name for name in FILES if (output / name).is_file())} in {output}",
        highlight=False,
        soft_wrap=True,
    )
    return 0


def compute_course(plan: DosePlan) -> Any:
    """All fractions, their totals, the aims and the differences, as a `reporting.dose.Course`."""
    from medpipe.engine.dose_fractions import compute_fraction
    from medpipe.metrics.dose_totals import differences_of, totals_of
    from medpipe.metrics.planning_aims import check_aims
    from medpipe.reporting.dose import Course

    manifest = checked_manifest(plan)
    results = [
        compute_fraction(number, fraction, plan, manifest) for number, fraction in enumerate(plan.fractions, start=1)
    ]
    doses = [dose for result in results for dose in result.doses]
    notes = [note for result in results for note in result.notes]
    notes += _twice([result.dose_uid for result in results], plan)
    external = plan.external_beam
    totals = totals_of(
        doses,
        len(plan.fractions),
        external_gy=external.dose_gy if external else 0,
        external_fractions=external.num_fractions if external else 1,
    )
    reference = {(one.structure, one.quantity): one for one in totals if one.contour == "reference"}
    reasons = {key: one.reason for key, one in reference.items() if one.reason}
    values = {key: one.total_gy for key, one in reference.items()}
    if external is None:
        # Brachytherapy alone would seem to meet the aims of every organ.
        reasons = dict.fromkeys(reference, "no external beam given; 0 Gy where there was none")
        values = {}
    return Course(
        doses=doses,
        totals=totals,
        checks=check_aims(values, reasons),
        differences=differences_of(doses, totals),
        surfaces=[row for result in results for row in result.surfaces],
        notes=list(dict.fromkeys(notes)),
        num_fractions=sum(fraction.delivered for fraction in plan.fractions),
        prescription_gy=plan.prescription_gy,
        external_beam=(external.dose_gy, external.num_fractions) if external else None,
        step_mm=plan.step_mm,
        files=[
            {
                "fraction": number,
                "paths": {
                    name: str(path)
                    for name in ("dose", "structures", "predicted", "ct")
                    if (path := getattr(fraction, name)) is not None
                },
            }
            for number, fraction in enumerate(plan.fractions, start=1)
        ],
    )


def _twice(uids: Sequence[str], plan: DosePlan) -> list[str]:
    """A fraction's dose that is given under two fractions: meant, or a slip."""
    keys = [uid or str(fraction.dose.resolve()) for uid, fraction in zip(uids, plan.fractions, strict=True)]
    return [
        f"fractions {keys.index(key) + 1} and {number + 1} are the same dose; if it was given twice, that is right"
        for number, key in enumerate(keys)
        if keys.index(key) < number
    ]


def summary_of(course: Any, plan: DosePlan) -> dict[str, Any]:
    """Everything but the curves, fit for JSON."""
    from medpipe.metrics.dosimetry import DEFINITIONS
    from medpipe.metrics.planning_aims import SOURCES
    from medpipe.reporting.comparison import portable

    return portable(
        {
            "research_use": "Research use only. Not for diagnosis, planning or treatment.",
            "plan": plan.model_dump(mode="json"),
            "fractions": [dose.row() for dose in course.doses],
            "totals": [
                {
                    "structure": one.structure,
                    "contour": one.contour,
                    "quantity": one.quantity,
                    "brachytherapy_eqd2_gy": one.brachytherapy_gy,
                    "external_eqd2_gy": one.external_gy,
                    "total_eqd2_gy": one.total_gy,
                    "reason": one.reason,
                }
                for one in course.totals
            ],
            "aims": [
                {
                    "source": check.aim.source,
                    "structure": check.aim.structure,
                    "quantity": check.aim.quantity,
                    "limits": check.aim.text,
                    "total_eqd2_gy": check.total_gy,
                    "status": check.status,
                    "reason": check.reason,
                }
                for check in course.checks
            ],
            "sources_of_aims": SOURCES,
            "differences": [one.row() for one in course.differences],
            "surfaces_near_target": course.surfaces,
            "notes": course.notes,
            "definitions": DEFINITIONS,
        }
    )


def _write_tables(course: Any, output: Path) -> None:
    import pandas as pd

    from medpipe.geometry.atomic import written_beside

    tables = {"dose.csv": pd.DataFrame([dose.row() for dose in course.doses])}
    tables["dvh.csv"] = pd.concat(
        [
            pd.DataFrame(
                {
                    "fraction": dose.fraction,
                    "structure": dose.structure,
                    "contour": dose.contour,
                    "dose_gy": dose.curve_gy,
                    "volume_ml": dose.curve_ml,
                    "volume_share": dose.curve_ml / dose.volume_ml if dose.volume_ml else dose.curve_ml,
                }
            )
            for dose in course.doses
        ]
    )
    if course.differences:
        differences = pd.DataFrame([one.row() for one in course.differences])
        if course.surfaces:
            differences = differences.merge(
                pd.DataFrame(course.surfaces).astype({"fraction": object}), on=["fraction", "structure"], how="left"
            )
        tables["differences.csv"] = differences
    for name, table in tables.items():
        with written_beside(output / name) as partial:
            table.to_csv(partial, index=False)
    if not course.differences:
        # Of an earlier call into the same folder: it would be read as this one's.
        (output / "differences.csv").unlink(missing_ok=True)


def _write_json(path: Path, value: Any) -> None:
    from medpipe.geometry.atomic import written_beside

    with written_beside(path) as partial:
        partial.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
