"""The report's section on the data that a model learnt from and was judged on."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta

from endcap.description import build_tables
from endcap.description.dataset import LENGTHS
from endcap.report.chart import Chart, Figure, ReportTable, Section, build_axis, build_layout, escape_label
from endcap.report.facts import Json, ReportFacts
from endcap.tables import format_value as cell

FOLDED = ("Files", "Sessions by length")
"""Tables that open on a click."""


def build_data_section(facts: ReportFacts) -> Section:
    """Build warnings, events a day, lengths of sessions, and the tables of the description."""
    description = facts.data
    if description is None:
        return Section("data", "Data", missing="The store no longer has the data of this verdict.")
    every = {
        caption: ReportTable(table.columns, [[cell(value) for value in row] for row in table.rows])
        for caption, table in build_tables(description).items()
    }
    warnings = {"What to look at": ReportTable(["warning"], [[warning["text"]] for warning in description["warnings"]])}
    open_tables = {caption: table for caption, table in every.items() if caption not in FOLDED}
    charts = [_draw_days(description["data"]["days"])]
    if description.get("sessions"):
        charts.append(_draw_lengths(description["sessions"]["lengths"]["bands"]))
    return Section(
        "data",
        "Data",
        "These charts and tables describe the log before and after the filters, and compare its items with the item "
        "table and the rules.",
        charts,
        {**(warnings if description["warnings"] else {}), **open_tables},
        {caption: every[caption] for caption in FOLDED if caption in every},
    )


def _draw_days(days: Json) -> Chart:
    first, events = date.fromisoformat(days["first"]), days["events"]
    dates = [(first + timedelta(days=place)).isoformat() for place in range(len(events))]
    alt = f"Events a day from {dates[0]} to {dates[-1]}: {min(events):,} to {max(events):,}, "
    alt += f"{events.count(0):,} days without an event"
    table = ReportTable(["day", "events"], [[day, f"{count:,}"] for day, count in zip(dates, events, strict=True)])
    return _draw_bars("data-days", "Events a day (UTC)", alt, dates, events, table)


def _draw_lengths(bands: Json) -> Chart:
    names = [name for name in LENGTHS if bands[name]]
    counts = [bands[name] for name in names]
    alt = "Sessions by how many events they have: "
    alt += "; ".join(f"{name}: {count:,}" for name, count in zip(names, counts, strict=True))
    table = ReportTable(
        ["events", "sessions"], [[name, f"{count:,}"] for name, count in zip(names, counts, strict=True)]
    )
    return _draw_bars("data-lengths", "Sessions by their events, after the filters", alt, names, counts, table)


def _draw_bars(
    name: str, title: str, alt: str, places: Sequence[str], counts: Sequence[int], table: ReportTable
) -> Chart:
    bars: Figure = {"type": "bar", "x": [escape_label(place) for place in places], "y": list(counts), "name": ""}
    bars |= {"marker": {"color": "var(--challenger)"}, "hovertemplate": "%{x}: %{y:,}"}
    axes = {
        "xaxis": build_axis(showgrid=False, type="date" if name == "data-days" else "category"),
        "yaxis": build_axis(nticks=6),
    }
    return Chart(name, title, alt, {"data": [bars], "layout": build_layout(280, bargap=0.15, **axes)}, table)
