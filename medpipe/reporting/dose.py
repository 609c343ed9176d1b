"""A course of brachytherapy as console tables, a figure of dose-volume histograms and one HTML page."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from medpipe.metrics.dose_totals import DoseDifference, StructureDose, Total, asked_of, is_target
from medpipe.metrics.dosimetry import DEFINITIONS, TITLES
from medpipe.metrics.planning_aims import AIMS, SOURCES, AimCheck
from medpipe.reporting.colours import MODEL_COLOURS, colour_of
from medpipe.reporting.formatting import in_words
from medpipe.reporting.pictures import Picture, drawing_style, picture

if TYPE_CHECKING:
    from rich.console import Console

FRACTION_COLUMNS = ("structure", "fraction", "contour", "cm3", "D2cc", "D1cc", "D0.1cc", "D90", "D98", "V100 %",
                    "V100 cm3", "outside %")  # fmt: skip
TOTAL_COLUMNS = ("structure", "contour", "quantity", "brachytherapy", "external beam", "total EQD2", "")
AIM_COLUMNS = ("structure", "quantity", "aim (soft / hard)", "total EQD2", "status", "source")
DIFFERENCE_COLUMNS = ("structure", "fraction", "quantity", "reference", "predicted", "difference Gy", "difference %",
                      "difference EQD2")  # fmt: skip
SURFACE_COLUMNS = ("structure", "fraction", "Dice", "HD95 mm", "ASSD mm", "ASD mm")


@final
@dataclass(frozen=True)
class Course:
    """What `medpipe dose` computed."""

    doses: Sequence[StructureDose]
    totals: Sequence[Total]
    checks: Sequence[AimCheck]
    differences: Sequence[DoseDifference]
    surfaces: Sequence[dict[str, Any]]
    notes: Sequence[str]
    num_fractions: int
    prescription_gy: float | None
    external_beam: tuple[float, int] | None  # Gy, fractions
    step_mm: float
    files: Sequence[dict[str, Any]]  # of each fraction: `fraction`, `paths` by name

    @property
    def sentence(self) -> str:
        """What was given, in words."""
        parts = [f"{self.num_fractions} fraction{'s' * (self.num_fractions != 1)} of brachytherapy"]
        if self.prescription_gy is not None:
            parts.append(f"{self.prescription_gy:g} Gy prescribed for each")
        if self.external_beam is None:
            parts.append("external beam unknown: totals are of brachytherapy alone")
        else:
            dose_gy, fractions = self.external_beam
            parts.append(f"external beam {dose_gy:g} Gy in {fractions} fractions" if dose_gy else "no external beam")
        return ", ".join(parts)


@final
@dataclass(frozen=True)
class DoseTable:
    """Cells as printed; the first column is the row's heading."""

    title: str
    explanation: str
    columns: tuple[str, ...]
    rows: list[list[str]]


def dose_tables(course: Course) -> list[DoseTable]:
    """The tables of a course, those without a row left out."""
    tables = [
        DoseTable("Each fraction", "Physical dose in Gy of one delivery.", FRACTION_COLUMNS, _fraction_rows(course)),
        DoseTable("Totals", "EQD2 in Gy over all fractions and the external beam.", TOTAL_COLUMNS, _total_rows(course)),
        DoseTable(
            "Planning aims",
            "Reference contours. " + "; ".join(f"{name}: {text}" for name, text in SOURCES.items()) + ".",
            AIM_COLUMNS,
            _aim_rows(course),
        ),
        DoseTable(
            "Predicted against reference: dose", "The same dose in both contours.", DIFFERENCE_COLUMNS,
            _difference_rows(course),
        ),
        DoseTable(
            "Predicted against reference: surface within 20 mm of the target",
            "Dice is of the whole structure.", SURFACE_COLUMNS, _surface_rows(course),
        ),
    ]  # fmt: skip
    return [table for table in tables if table.rows]


def number(value: float, places: int = 2, sign: str = "") -> str:
    """As printed; `-` for what is undefined."""
    if math.isnan(value):
        return "-"
    return "inf" if math.isinf(value) else f"{value:{sign}.{places}f}"


def _fraction_rows(course: Course) -> list[list[str]]:
    rows = []
    for dose in course.doses:
        shown = {name: number(value) for name, value in dose.doses_gy.items()}
        # A target's hottest cm3 and an organ's D90 are in dose.csv; here they would only be taken for the other.
        cells = [shown[name] if name in asked_of(dose.structure) else "" for name in TITLES]
        v100 = [number(100 * dose.v100_share, 1), number(dose.v100_ml, 1)] if is_target(dose.structure) else ["", ""]
        outside = number(100 * dose.outside_share, 1) if dose.outside_share > 0 else ""
        rows.append([dose.structure, _fraction(dose), dose.contour, number(dose.volume_ml, 1), *cells, *v100, outside])
    return rows


def _fraction(dose: StructureDose) -> str:
    return f"{dose.fraction}" + (f" (x {dose.delivered})" if dose.delivered > 1 else "")


def _total_rows(course: Course) -> list[list[str]]:
    return [
        [one.structure, one.contour, TITLES[one.quantity], number(one.brachytherapy_gy), number(one.external_gy),
         number(one.total_gy), one.reason]
        for one in course.totals
    ]  # fmt: skip


def _aim_rows(course: Course) -> list[list[str]]:
    return [
        [check.aim.structure, TITLES.get(check.aim.quantity, check.aim.quantity), check.aim.text,
         number(check.total_gy), f"{check.status}{': ' + check.reason if check.reason else ''}", check.aim.source]
        for check in course.checks
    ]  # fmt: skip


def _difference_rows(course: Course) -> list[list[str]]:
    rows = []
    for one in course.differences:
        is_total = one.fraction == 0
        old, new = (one.reference_eqd2_gy, one.predicted_eqd2_gy) if is_total else (one.reference_gy, one.predicted_gy)
        physical = "" if is_total else number(one.difference_gy, sign="+")
        rows.append(
            [one.structure, "total EQD2" if is_total else str(one.fraction), TITLES[one.quantity], number(old),
             number(new), physical, number(one.difference_percent, 1, "+"), number(one.difference_eqd2_gy, sign="+")]
        )  # fmt: skip
    return rows


def _surface_rows(course: Course) -> list[list[str]]:
    return [
        [row["structure"], str(row["fraction"]), number(row["dice"], 3), *(number(row[name]) for name in
         ("near_hd95_mm", "near_assd_mm", "near_asd_mm"))]
        for row in course.surfaces
    ]  # fmt: skip


def print_dose(course: Course, console: "Console") -> None:
    """Tables, notes and definitions: rich on a terminal, plain lines elsewhere."""
    from medpipe.reporting.report import RESEARCH_USE

    def say(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=not console.is_terminal)

    say(course.sentence)
    for table in dose_tables(course):
        say(f"\n{table.title}. {table.explanation}")
        _print_table(table, console)
    if course.notes:
        say("\nNotes\n" + "\n".join(f"  {note}" for note in course.notes))
    say("\nDefinitions\n" + "\n".join(f"  {name}: {text}" for name, text in DEFINITIONS.items()))
    say(f"\n{RESEARCH_USE}")


def _print_table(table: DoseTable, console: "Console") -> None:
    if console.is_terminal:
        from rich.markup import escape
        from rich.table import Table

        shown = Table(header_style="bold")
        for index, column in enumerate(table.columns):
            shown.add_column(escape(column), justify="left" if index == 0 else "right")
        for row in table.rows:
            shown.add_row(*(escape(cell) for cell in row))
        console.print(shown)
        return
    from medpipe.reporting.tables import aligned

    lines = [list(table.columns), *table.rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(table.columns))]
    console.print("\n".join(aligned(line, widths) for line in lines), markup=False, highlight=False, soft_wrap=True)


def dvh_figure(course: Course) -> Picture:
    """Cumulative dose-volume histograms, a panel a fraction; solid the reference, dashed the prediction."""
    from matplotlib.figure import Figure

    numbers = sorted({dose.fraction for dose in course.doses})
    structures = list(dict.fromkeys(dose.structure for dose in course.doses))
    columns = min(2, len(numbers))
    rows = math.ceil(len(numbers) / columns)
    with drawing_style():
        figure = Figure(figsize=(5.4 * columns + 1.2, 3.4 * rows + 0.4), layout="constrained")
        panels = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
        for panel, fraction in zip(panels, numbers, strict=False):
            mine = [dose for dose in course.doses if dose.fraction == fraction and dose.volume_ml]
            _draw_histograms(panel, mine, structures, course.prescription_gy)
            panel.set_title(f"fraction {fraction}", loc="left")
        for panel in panels[len(numbers) :]:
            panel.set_visible(False)
        _legend(figure, course, structures)
        return picture(
            figure, f"Cumulative dose-volume histograms of {', '.join(structures)} in {len(numbers)} fractions; the "
            "numbers stand in the tables, the curves in dvh.csv.",
        )  # fmt: skip


def _draw_histograms(
    panel: Any, doses: Sequence[StructureDose], structures: Sequence[str], prescription_gy: float | None
) -> None:
    for dose in doses:
        colour = colour_of(structures.index(dose.structure), MODEL_COLOURS)
        panel.plot(
            dose.curve_gy, 100 * dose.curve_ml / dose.volume_ml, color=colour,
            linewidth=1.9 if dose.contour == "reference" else 1.3,
            linestyle="-" if dose.contour == "reference" else (0, (4, 2)),
        )  # fmt: skip
    if prescription_gy is not None:
        panel.axvline(prescription_gy, color="#59636e", linewidth=0.9, linestyle=":")
        # Half way up: a target's curve crosses the line above 80 %, an organ's below 20 %.
        panel.text(
            prescription_gy, 50, "prescribed", color="#59636e", fontsize=7.5, rotation=90, ha="right", va="center"
        )
    panel.set_xlim(0, _end_of_axis(doses, prescription_gy))
    panel.set_ylim(0, 102)
    panel.set_xlabel("dose (Gy)")
    panel.set_ylabel("volume that receives at least this dose (%)")
    panel.grid()
    panel.set_axisbelow(True)


def _end_of_axis(doses: Sequence[StructureDose], prescription_gy: float | None) -> float:
    """Gy. Beside a source the dose has no end; what is judged lies below the hottest 0.1 cm3 of organs and twice D90.

    A structure without an aim is left out where others have one: the uterus holds the sources, at hundreds of Gy.
    """
    judged = {aim.structure for aim in AIMS}
    ends = [
        2 * dose.doses_gy["d90"] if is_target(dose.structure) else 1.1 * dose.doses_gy["d0_1cc"]
        for dose in [dose for dose in doses if dose.structure in judged] or doses
    ] + [1.5 * prescription_gy if prescription_gy is not None else math.nan]
    return max((end for end in ends if math.isfinite(end)), default=1.0)


def _legend(figure: Any, course: Course, structures: Sequence[str]) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=colour_of(index, MODEL_COLOURS), linewidth=2, label=in_words(name))
        for index, name in enumerate(structures)
    ]
    if any(dose.contour == "predicted" for dose in course.doses):
        handles += [
            Line2D([], [], color="#333b43", linewidth=1.9, label="reference"),
            Line2D([], [], color="#333b43", linewidth=1.3, linestyle=(0, (4, 2)), label="predicted"),
        ]
    figure.legend(handles=handles, loc="outside upper right", ncols=min(len(handles), 7), columnspacing=1.2)


def render_dose_report(course: Course) -> str:
    """The page as HTML text."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    from medpipe.reporting.report import RESEARCH_USE

    package = files("medpipe.reporting")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["words"] = in_words
    template = environment.from_string(package.joinpath("dose.html.j2").read_text(encoding="utf-8"))
    return template.render(
        # The only text that is not escaped: the style, a file of this package.
        css=Markup(package.joinpath("report.css").read_text(encoding="utf-8")),
        research_use=RESEARCH_USE,
        course=course,
        figure=dvh_figure(course),
        tables=dose_tables(course),
        definitions=DEFINITIONS,
        flagged=("exceeded", "not reached"),
    )


def write_dose_report(path: Path, course: Course) -> Path:
    """One self-contained HTML file."""
    from medpipe.geometry.atomic import written_beside

    html = render_dose_report(course)
    with written_beside(path) as partial:
        partial.write_text(html, encoding="utf-8")
    return path
