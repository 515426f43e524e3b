"""What personalisation brings, as lines of a screen and as a section of a page."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from endcap.experiments.decision_parts import format_change
from endcap.experiments.lift import Lift
from endcap.report.chart import NONE, Chart, Figure, ReportTable, Section, build_axis, build_layout, escape_label
from endcap.rollout.history import format_minute
from endcap.rollout.lift import ChampionLift
from endcap.rollout.screen import WIDTH, draw_band, format_band_numbers, make_plain

_MOST_SURFACES = 4
"""On the screen, those with the most rankings. The page has all."""
_LIMITS = (0.1, 0.2, 0.5, 1.0, 2.0)
"""Changes that bars end at."""
_LIFT, _TRUTH = "var(--challenger)", "var(--muted)"


def format_lift(recommender: str, lift: ChampionLift) -> str:
    """Return the lift as text.

    Parameters
    ----------
    recommender
        Its name.
    lift
        What was measured.

    Returns
    -------
    str
        Lines of at most 80 printable ASCII characters.
    """
    lines = [
        f"{recommender}: what personalisation brings, against popularity",
        f"  champion   version {lift.version}, since {format_minute(lift.since)} UTC",
        f"  last look  {'never' if lift.until is None else f'{format_minute(lift.until)} UTC'}",
    ]
    surfaces = sorted(lift.table.surfaces, key=lambda entry: -sum(entry.exposures.values()))
    parts = (
        ("all", lift.table.metrics),
        ("clicks by place", lift.table.places),
        ("clicks by surface", surfaces[:_MOST_SURFACES]),
    )
    limit = _find_limit([entry for _, entries in parts for entry in entries])
    for title, entries in parts:
        known = [entry for entry in entries if sum(entry.exposures.values())]
        if known:
            scale = f"{format_change(-limit)}".ljust(15) + "0" + f"{format_change(limit)}".rjust(15)
            lines += [f"  {title:19} {scale if title == 'all' else ''}"]
            lines += [
                f"    {_name(entry)[:16]:16}  {draw_band(entry, limit)}  {format_band_numbers(entry)}"
                for entry in known
            ]
    if not lift.table.metrics:
        lines.append("  nothing is known yet")
    lines += [f"  {sentence}" for sentence in list_lift_doubts(lift)]
    return "\n".join(make_plain(line)[:WIDTH].rstrip() for line in lines)


def list_lift_doubts(lift: ChampionLift) -> list[str]:
    """Return in sentences what makes the lift doubtful, or bad news."""
    doubts = [f"Popularity does better on {loss.metric}." for loss in lift.losses]
    if lift.mismatches:
        doubts.append(f"{lift.mismatches:,} exposures name an arm that the shopper's hash does not give.")
    if lift.problem:
        doubts.append(f"The intake's files cannot be read: {lift.problem}")
    return doubts


def build_lift_section(lift: ChampionLift | None) -> Section:
    """Build the section of a page. None: there is no baseline, or nothing was measured yet."""
    title = "What personalisation brings"
    if lift is None or not lift.table.metrics:
        return Section("lift", title, missing="There is no baseline, or nothing is known of it yet.")
    say = (
        f"Version {lift.version} against popularity, which a permanent share of the shoppers gets, since "
        f"{format_minute(lift.since)} UTC. Each band holds the true lift at every look with 95 %."
    )
    say = " ".join([say, *list_lift_doubts(lift)])
    parts = {
        "In all": lift.table.metrics,
        "Clicks by place": lift.table.places,
        "Clicks by surface": lift.table.surfaces,
    }
    past = [
        [
            entry.version,
            format_minute(entry.since),
            NONE if entry.until is None else format_minute(entry.until),
            *_list_cells(first),
        ]
        for entry in lift.past
        for first in entry.table.metrics[:1]
    ]
    head = ["version", "since (UTC)", "until (UTC)", "metric", "lift", "band"]
    folded = {title: _tabulate(entries) for title, entries in parts.items() if entries}
    if past:
        folded["Champions before"] = ReportTable(head, [row[:6] for row in past])
    return Section("lift", title, say, [_draw(lift)], folded=folded)


def _draw(lift: ChampionLift) -> Chart:
    table = lift.table
    groups = (("", table.metrics), ("place ", table.places), ("surface ", table.surfaces))
    rows = [
        (f"{prefix}{entry.metric}" if entry.metric else "no surface", entry)
        for prefix, entries in groups
        for entry in entries
        if sum(entry.exposures.values())
    ]
    limit = _find_limit([entry for _, entry in rows])
    traces = [_draw_line(name, entry, limit) for name, entry in reversed(rows)]
    axis = build_axis(range=[-limit, limit], tickformat="+.3~%", nticks=6)
    names = build_axis(type="category", showgrid=False, tickangle=0)
    zero = {"type": "line", "yref": "paper", "y0": 0, "y1": 1, "x0": 0, "x1": 0, "line": {"color": _TRUTH, "width": 1}}
    layout = build_layout(80 + 26 * len(rows), xaxis=axis, yaxis=names, shapes=[zero])
    figure: Figure = {"data": traces, "layout": layout}
    text = "; ".join(f"{name}: {format_change(entry.effect)}, {_format_band(entry)}" for name, entry in rows)
    return Chart("lift", "Lift over popularity", f"Lift over popularity: {text}", figure)


def _draw_line(name: str, entry: Lift, limit: float) -> dict[str, object]:
    ends = [max(-limit, entry.lower), min(limit, entry.effect), min(limit, entry.upper)]
    label = escape_label(name)
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "x": ends,
        "y": [label] * 3,
        "name": label,
        "line": {"color": _LIFT, "width": 3},
        "marker": {"color": _LIFT, "size": [1, 9, 1]},
        "hovertemplate": f"{label}: {format_change(entry.effect)}, {_format_band(entry)}<extra></extra>",
    }


def _tabulate(entries: Sequence[Lift]) -> ReportTable:
    head = ["", "lift", "band", "shoppers", "rankings or visits", "outcomes"]
    return ReportTable(head, [[*_list_cells(entry), *_list_counts(entry)] for entry in entries])


def _list_cells(entry: Lift) -> list[str]:
    return [_name(entry), _minus(format_change(entry.effect)), _minus(_format_band(entry))]


def _list_counts(entry: Lift) -> Iterator[str]:
    for counts in (entry.shoppers, entry.exposures, entry.outcomes):
        yield ", ".join(f"{arm}: {count:,.6g}" for arm, count in sorted(counts.items(), reverse=True))


def _format_band(entry: Lift) -> str:
    upper = format_change(entry.upper) if math.isfinite(entry.upper) else "any"
    return f"{format_change(entry.lower)} to {upper}"


def _name(entry: Lift) -> str:
    return entry.metric or "no surface"


def _find_limit(entries: Sequence[Lift]) -> float:
    """Return the change that bars end at: a round one that most bands fit into."""
    ends = [abs(end) for entry in entries for end in (entry.lower, entry.upper) if -1 < end < math.inf]
    largest = max(ends, default=1.0)
    return next((limit for limit in _LIMITS if largest <= limit), _LIMITS[-1])


def _minus(text: str) -> str:
    return text.replace("-", "\N{MINUS SIGN}")
