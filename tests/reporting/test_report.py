"""The report says what the scores say, stands alone, and escapes what it is given."""

import base64
import dataclasses
import io
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from medpipe.metrics.aggregation import mean_dice, summary
from medpipe.metrics.definitions import definitions
from medpipe.reporting.content import CaseView, ReportContent
from medpipe.reporting.report import RESEARCH_USE, render_report, write_report


class Page(HTMLParser):
    """Every tag with its attributes, and the text of each element kind."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def html(example_content: ReportContent) -> str:
    return render_report(example_content)


def test_the_report_refers_to_nothing_outside_itself(html: str) -> None:
    assert not re.search(r"https?://|//cdn|@import|url\(", html)
    page = Page(html)
    sources = [
        attributes[name] for _, attributes in page.tags for name in ("src", "href", "srcset") if name in attributes
    ]
    assert sources
    assert all(source is not None and source.startswith(("data:image/", "#")) for source in sources)
    assert not page.attributes("link")
    ids = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    assert {source[1:] for source in sources if source and source.startswith("#")} <= ids


def test_every_picture_has_a_text_and_can_be_read(html: str) -> None:
    pictures = Page(html).attributes("img")
    assert len(pictures) == 1 + 1 + 3 + 3 + 1  # strips, differences, learning curves, cases, reconstruction
    for attributes in pictures:
        assert len(attributes["alt"] or "") > 20
        kind, data = re.fullmatch(r"data:image/(png|svg\+xml);base64,(.*)", attributes["src"] or "").groups()  # type: ignore[union-attr]
        raw = base64.b64decode(data, validate=True)
        if kind == "png":
            Image.open(io.BytesIO(raw)).verify()
        else:
            assert ElementTree.fromstring(raw).tag.endswith("svg")


def test_the_numbers_are_those_of_the_aggregation(html: str, example_scores: pd.DataFrame) -> None:
    text = Page(html).text
    for row in summary(example_scores).to_dict("records"):
        if row["metric"] not in ("dice", "nsd_2mm"):
            continue
        assert f"{row['mean']:.3f} ± {row['sd']:.3f}" in text
        assert f"{row['median']:.3f} [{row['q1']:.3f}, {row['q3']:.3f}]" in text
    hd95 = summary(example_scores).query("metric == 'hd95_mm'")
    for row in hd95.to_dict("records"):
        q3 = "∞" if row["q3"] == float("inf") else f"{row['q3']:.2f}"
        assert f"{row['median']:.2f} [{row['q1']:.2f}, {q3}]" in text
        assert f"n {row['n']}, {row['missed']} missed, {row['false']} false" in text
    for mean in mean_dice(example_scores)["mean_dice"]:
        assert f"{mean:.3f}" in text


def test_every_part_is_there(html: str, example_content: ReportContent) -> None:
    text = Page(html).text
    parts = [RESEARCH_USE, "Gynaecologic brachytherapy", "run demo", "2026-11-23 14:05", "NSD at 2 mm"]
    parts += ["gyn_003: the prediction was brought to the grid", "All cases, worst first", "mask_ratio: 0.6"]
    parts += ["medpipe run gynecologic_brachytherapy --overlay demo", "0f3c2a9", "versions.torch", "head.bias"]
    assert [part for part in parts if part not in text] == []
    assert all(sentence in text for sentence in example_content.comparisons[0][1].methods())
    assert all(sentence in text for sentence in definitions(example_content.scores.columns).values())
    assert "Not in this report" not in text
    assert {"best", "median", "worst"} == {role for role, _ in example_content.cases}


def test_the_cases_come_worst_first_and_missed_ones_are_named(html: str, example_scores: pd.DataFrame) -> None:
    table = html[html.index('id="all-cases"') :]
    printed = [float(value) for value in re.findall(r"<td><b>([0-9.]+)</b></td>", table)]
    assert len(printed) == example_scores.groupby(["model", "case_id"]).ngroups
    assert printed == sorted(printed)
    for status in ("missed", "false", "absent"):
        assert len(re.findall(rf">{status}</span>", table)) == (example_scores["status"] == status).sum()


def test_whatever_it_is_given_is_text_and_never_markup(
    example_content: ReportContent, example_scores: pd.DataFrame
) -> None:
    evil = "<script>alert('x')</script>"
    scores = example_scores.assign(
        case_id=evil + example_scores["case_id"], model=example_scores["model"] + "<img src=x>"
    )
    role, view = example_content.cases[0]
    content = dataclasses.replace(
        example_content, scores=scores, title=evil, notes=(evil,), workflow=evil, record={evil: evil}, summary=evil,
        cases=[(role, dataclasses.replace(view, case_id=evil))], transfers={evil: {"source": evil, "fresh": [evil]}},
        curves={evil: example_content.curves["organs"]}, definitions={evil: evil},
    )  # fmt: skip
    html = render_report(content)
    assert evil not in html
    assert "<img src=x>" not in html
    assert len(Page(html).attributes("script")) == 1


def test_missing_parts_are_named(example_scores: pd.DataFrame) -> None:
    html = render_report(ReportContent(title="Nothing yet"))
    text = Page(html).text
    for part in (
        "nothing was evaluated",
        "no stage recorded any",
        "no masked pretraining",
        "none were",
        "no case was chosen",
    ):
        assert part in text
    assert RESEARCH_USE in text
    assert "Definitions" in text
    only_scores = render_report(ReportContent(title="Scores alone", scores=example_scores))
    assert "nothing was evaluated" not in only_scores
    assert "no stage recorded any" in only_scores


def test_a_single_model_has_one_table_with_all_metrics(example_scores: pd.DataFrame) -> None:
    one = example_scores[example_scores["model"] == "full"]
    html = render_report(ReportContent(title="One", scores=one))
    head = html[html.index('<section id="scores">') :].split("</thead>")[0]
    headings = re.findall(r'<th scope="col">(.*?)</th>', head)
    counts = ["n", "missed", "false", "absent"]
    assert headings == ["structure", *counts, "Dice", "HD95 (mm)", "ASSD (mm)", "ASD (mm)", "NSD at 2 mm"]
    assert "mean Dice" in html


def test_labelled_shares_get_a_table_and_a_figure(make_scores: Callable) -> None:
    scores = make_scores(("full", "scratch"), (0.1, 1.0), 5)
    html = render_report(ReportContent(title="Ablation", scores=scores))
    table = html[html.index("Mean Dice by share") :].split("</table>")[0]
    printed = re.findall(r'<span class="main">([0-9.]+)</span>', table)
    expected = mean_dice(scores).sort_values(["model", "labelled_share"])["mean_dice"]
    assert printed == [f"{value:.3f}" for value in expected]
    assert len(Page(html).attributes("img")) == 2
    assert "Scores per structure, trained on 10 % of the labelled cases" in html


def test_a_large_study_stays_a_small_file(
    make_scores: Callable, example_content: ReportContent, tmp_path: Path
) -> None:
    scores = make_scores(("a", "b", "c", "d", "e"), (1.0,), 30)
    path = write_report(tmp_path / "new folder" / "report.html", dataclasses.replace(example_content, scores=scores))
    assert path.stat().st_size < 5_000_000
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]  # nothing beside it, nothing unfinished


def test_the_same_content_gives_the_same_bytes(example_scores: pd.DataFrame) -> None:
    content = ReportContent(title="Twice", scores=example_scores)
    assert render_report(content) == render_report(content)


def test_masks_on_another_grid_are_refused(example_content: ReportContent) -> None:
    _, view = example_content.cases[0]
    with pytest.raises(
        ValueError, match=r"case gyn_0.*the prediction of bladder is \(3, 3, 3\), its volume \(40, 72, 90\)"
    ):
        CaseView(view.case_id, view.volume, view.spacing_mm, {}, {"bladder": view.reference["bladder"][:3, :3, :3]}, {})
