"""What a report holds, read as a browser's parser reads it."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from typing import Any

import plotly.graph_objects
import pytest

from endcap.models import FitReport
from endcap.models.blend import score_side_by_side
from endcap.report import ReportFacts, render
from endcap.report.metrics_section import build_metrics_section
from tests.report.facts import HOSTILE, bare, compared, full, search

VOID = {"meta", "img", "br", "link", "input", "hr"}
MB = 1_000_000


@dataclass
class Read(HTMLParser):
    """The elements of a page with their attributes, its text but for scripts and styles, and what stands in those."""

    elements: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    text: str = ""
    code: list[str] = field(default_factory=list)
    open: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self.code.append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("script", "style"):
            self.code[-1] += data
        else:
            self.text += data

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def read(facts: ReportFacts) -> Read:
    page = Read()
    page.feed(render(facts))
    page.close()
    assert page.open == []
    return page


@pytest.fixture(scope="module")
def page() -> Read:
    return read(full())


def test_the_head_says_what_became_of_which_model_and_why(page: Read) -> None:
    text = " ".join(page.text.split())
    assert "shop gru4rec \N{VECTOR OR CROSS PRODUCT} failed" in text
    assert "The gate failed: mrr@20 minus champion's is -0.01" in text
    assert "Judged against the champion, version 3." in text
    assert "hr@20 is 0.36, at least 0.1" in text
    assert "the champion knows too much" in text
    assert "mrr@20 0.3600 +4.3 % against champion" in text


def test_an_undecided_gate_says_what_is_missing_and_how_the_champion_was_judged() -> None:
    champion = {"version": "3", "package": "p", "judged": "recipe", "reason": f"it saw the test {HOSTILE}"}
    facts = full()
    judged = {**facts.verdict, "outcome": "undecided", "champion": champion}
    judged["evidence"] = {"lacking": [f"the test has 3 sessions {HOSTILE}"]}
    text = " ".join(read(replace(facts, verdict=judged)).text.split())
    assert "shop gru4rec ? undecided" in text
    assert "The gate is undecided: the test has 3 sessions" in text
    assert "version 3, by its recipe." in text
    assert "is judged by its recipe, its settings as found" in text
    models = [name for name in facts.models if name != "champion"]
    unjudged = {**judged, "champion": {**champion, "judged": None}}
    text = " ".join(read(replace(facts, verdict=unjudged, models=models)).text.split())
    assert "The champion, version 3, is not judged; the best baseline is" in text


def test_every_section_is_headed_and_reached(page: Read) -> None:
    sections = [attributes["id"] for attributes in page.named("section")]
    wanted = ["gate", "metrics", "learning", "segments", "coverage", "search", "data", "samples", "about"]
    assert sections == wanted
    assert [link["href"] for link in page.named("a")] == [f"#{name}" for name in wanted]
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert all(section["aria-labelledby"] in ids for section in page.named("section"))


def test_charts_say_in_words_what_they_show_and_tables_have_heads(page: Read) -> None:
    charts = [attributes for _, attributes in page.elements if "data-chart" in attributes]
    assert len(charts) >= 14
    assert all(chart["role"] == "img" and len(chart["aria-label"] or "") > 20 for chart in charts)
    assert len({chart["data-chart"] for chart in charts}) == len(charts)
    assert all(head["scope"] in ("col", "row") for head in page.named("th"))
    assert len(page.named("table")) == len(page.named("caption"))


def figures(page: Read) -> dict[str, Any]:
    (text,) = [code for code in page.code if code.startswith("{")]
    return json.loads(text)


def test_figures_are_whole_in_plotlys_own_eyes(page: Read) -> None:
    """Plotly's Python classes refuse what its script would silently leave out."""
    drawn = figures(page)
    assert {attributes["data-chart"] for _, attributes in page.elements if "data-chart" in attributes} == set(drawn)
    style = next(code for code in page.code if ":root" in code)
    for figure in drawn.values():
        text = json.dumps(figure)
        names = set(re.findall(r'"var\((--[\w-]+)\)"', text))
        assert all(f"{name}:" in style for name in names)
        plotly.graph_objects.Figure(json.loads(re.sub(r"var\(--[\w-]+\)", "#123456", text)))


def test_what_comes_from_outside_is_text(page: Read) -> None:
    assert page.text.count(HOSTILE) >= 6
    assert len(page.named("script")) == 3
    assert not page.named("img")
    assert not page.named("b")
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    labels = json.dumps(figures(page))
    assert "<script" not in labels
    assert "<b>" not in labels


def test_nothing_is_asked_of_the_network(page: Read) -> None:
    """No element names an address, and the page's policy would let none be asked, nor another script run."""
    addressed = [
        attributes.get(name)
        for _, attributes in page.elements
        for name in ("src", "srcset", "data", "poster", "action")
    ]
    assert addressed == [None] * len(addressed)
    assert all((link["href"] or "").startswith("#") for link in page.named("a"))
    assert not page.named("link")
    style = next(code for code in page.code if ":root" in code)
    assert "url(" not in style
    assert "@import" not in style
    (policy,) = [meta["content"] or "" for meta in page.named("meta") if "http-equiv" in meta]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-inline" not in policy.partition("style-src")[0]


def test_it_is_one_file_of_about_five_megabytes() -> None:
    text = render(full())
    assert 4 * MB < len(text.encode()) < 6 * MB
    assert len(text) - max(map(len, text.split("<script>"))) < 0.2 * MB, "all but Plotly's own script"


def test_sample_sessions_show_both_lists_and_mark_what_came_next(page: Read) -> None:
    text = " ".join(page.text.split())
    assert "Only the challenger finds it" in text
    assert "After 3 earlier events and" in text
    assert "challenger place 2" in text
    assert "champion not among its first 10" in text
    assert "an item that this data lacks" in text
    (marked,) = [attributes for _, attributes in page.elements if attributes.get("class") == "is-next"]
    assert marked


def test_failed_trials_and_the_best_settings_are_told(page: Read) -> None:
    text = " ".join(page.text.split())
    assert "9 trials, 32 s of training: 6 complete, 1 pruned, 1 cut, 1 failed. Number 5 is the best" in text
    assert "With the settings of the spec the model reached 0.3000, before its end." in text
    assert "the loss became NaN" in text
    assert "Settings of the best trial, number 5" in text
    assert figures(page)["importances"]["data"][0]["y"] == ["loss", "learning_rate"]


def test_the_data_are_told_with_what_to_look_at(page: Read) -> None:
    captions = "".join(page.text.split("Data\n")[-1:])
    assert all(caption in captions for caption in ("What to look at", "Bad rows", "What matches", "Filters"))
    text = " ".join(page.text.split())
    assert "no id of the item table is in the log" in text
    assert "leading zeros were lost" in text
    drawn = figures(page)
    assert drawn["data-days"]["data"][0]["x"][3] == "2024-03-04"
    assert drawn["data-days"]["data"][0]["y"] == [60, 0, 0, 30, 10]
    assert (drawn["data-lengths"]["data"][0]["x"], drawn["data-lengths"]["data"][0]["y"]) == (["2", "6-10"], [30, 4])


def test_a_blends_members_are_each_shown_with_their_search() -> None:
    facts = full()
    found = {"members": {"gru": search(), "sas": search()}, "left_out": {"ease": "its fit takes 8.3 GB"}}
    page = read(replace(facts, trained={**facts.trained, "search": found}))
    assert "ease is left out of the blend: its fit takes 8.3 GB." in " ".join(page.text.split())
    drawn = figures(page)
    assert {"gru-trials", "sas-trials", "gru-slice-width", "sas-importances"} <= set(drawn)


def of_a_blend() -> dict[str, Any]:
    """What the train step notes of a blend whose members learnt for 3 and for 2 epochs."""
    rows = {
        label: [{"epoch": at, "loss": 5.0 / at, "validation": at / 10, "seconds": 2.0} for at in range(1, epochs + 1)]
        for label, epochs in (("gru", 3), ("sas", 2))
    }
    reports = {label: FitReport({"epochs": 2}, history) for label, history in rows.items()} | {"vsknn": FitReport()}
    found = {"members": {label: dict(report.settings) for label, report in reports.items()}, "weights": {"gru": 1.0}}
    return {"model": {"name": "blend"}, "found": found, "history": [dict(row) for row in score_side_by_side(reports)]}


def test_a_blends_members_are_curves_of_one_chart() -> None:
    page = read(replace(full(), trained=of_a_blend()))
    drawn = {name: figure for name, figure in figures(page).items() if name.startswith("learning-")}
    assert {name: [one["name"] for one in figure["data"]] for name, figure in drawn.items()} == {
        "learning-loss": ["gru", "sas"],
        "learning-validation": ["gru", "sas"],
    }
    text = " ".join(page.text.split())
    kept = "2 of them kept because the validation part was best there"
    assert f"gru 3 epochs in 6 s, {kept}; sas 2 epochs in 4 s, {kept}" in text


def test_a_quantity_that_is_no_number_at_an_epoch_has_no_point_there() -> None:
    facts = full()
    history = [{"epoch": 1, "loss": 2.0}, {"epoch": 2, "loss": math.nan}, {"epoch": 3, "loss": 1.0, "own": math.inf}]
    drawn = figures(read(replace(facts, trained={**facts.trained, "history": history})))
    assert [name for name in drawn if name.startswith("learning-")] == ["learning-loss"]
    assert drawn["learning-loss"]["data"][0]["x"] == [1, 3]


def test_segments_stand_in_their_order(page: Read) -> None:
    ticks = figures(page)["segments-prefix-mrr@20"]["layout"]["xaxis"]["ticktext"]
    assert [tick.partition("<br>")[0] for tick in ticks] == ["1", "2", "10+"]
    hidden = {one["name"] for one in figures(page)["segments-prefix-mrr@20"]["data"] if one["visible"] == "legendonly"}
    assert hidden == {"popularity"}


def test_what_lies_far_below_is_an_arrow_at_the_edge(page: Read) -> None:
    dots = {one["y"][0]: one for one in figures(page)["dots-mrr@20"]["data"]}
    low, high = figures(page)["dots-mrr@20"]["layout"]["xaxis"]["range"]
    assert dots["popularity"]["marker"]["symbol"] == "triangle-left"
    assert low < dots["popularity"]["x"][0] < dots["champion"]["x"][0] < dots["challenger"]["x"][0] < high
    assert "error_x" not in dots["popularity"]
    error = dots["challenger"]["error_x"]
    assert (error["array"], error["arrayminus"]) == (pytest.approx([0.01]), pytest.approx([0.01]))


def test_what_is_not_known_is_left_out_with_a_word() -> None:
    text = " ".join(read(bare()).text.split())
    assert "The gate has no conditions." in text
    assert "challenger does not learn in epochs" in text
    assert "There was no search: the model was trained with the settings of its spec." in text
    assert "This verdict has no segments." in text
    assert "This verdict has no sample sessions." in text
    assert "This verdict does not have these metrics." in text
    assert "The store no longer has the data of this verdict." in text


def test_a_model_without_rivals_has_no_differences() -> None:
    assert [chart.name for chart in build_metrics_section(bare()).charts] == ["dots-mrr@20"]


def test_a_comparison_is_a_page_without_a_gate_that_names_its_models() -> None:
    page = read(compared())
    sections = [attributes["id"] for attributes in page.named("section")]
    assert sections == ["warnings", "metrics", "learning", "segments", "coverage", "data", "samples", "about"]
    # Warnings stand at the head, without a link of their own.
    assert [link["href"] for link in page.named("a")] == [f"#{name}" for name in sections[1:]]
    text = " ".join(page.text.split())
    assert "shop 2 models compared" in text
    assert "fast: gru4rec width=100" in text
    assert "nothing was registered" in text
    assert "Only fast finds it" in text
    assert "challenger" not in text.casefold()
    assert "Others minus fast, mrr@20" in text
    assert len(page.named("script")) == 3
    assert not page.named("img")
    drawn = figures(page)
    names = [trace["name"] for trace in drawn["learning-loss"]["data"]]
    assert names[0] == "fast"
    assert len(names) == 2
    assert len(page.named("table")) == len(page.named("caption"))
