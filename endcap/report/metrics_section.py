"""The report's sections on how well models rank: metrics, differences, coverage, bias and times."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from endcap.evaluation.metrics import lower_is_better
from endcap.evaluation.verdict_text import describe_queries
from endcap.report.chart import NONE, Chart, ReportTable, Section, format_number
from endcap.report.facts import ReportedValue, ReportFacts
from endcap.report.whiskers import (
    compute_difference_span,
    compute_value_span,
    draw_whiskers,
    format_estimate,
    format_interval,
)

RANKING = ("mrr", "hr", "ndcg", "next_ndcg", "recall", "precision")
DRAWN = RANKING[:3]
BEYOND = ("coverage", "popularity_bias")
TIMES = "_ms"
TITLES = {
    "mrr": "Mean reciprocal rank",
    "hr": "Hit rate",
    "ndcg": "NDCG of the rest of the session",
    "next_ndcg": "NDCG of the next item",
    "coverage": "Coverage of the catalogue",
    "popularity_bias": "Popularity bias",
    "p90_ms": "Time of a prediction, 90th percentile, ms",
}


def build_metrics_section(facts: ReportFacts) -> Section:
    """Build the metrics at the deepest cutoff, and the challenger's differences with their paired intervals."""
    own = facts.values[facts.models[0]]
    names = [facts.at(name) for name in DRAWN if facts.at(name) in own]
    charts = [_draw_values(facts, name) for name in names]
    charts += [_draw_differences(facts, name) for name in names if facts.other_models]
    say = (
        f"{describe_queries(facts.verdict)}, over a catalogue of {facts.verdict['items']:,} items. Whiskers are "
        f"{facts.confidence} intervals, from a bootstrap over sessions. Intervals of differences are paired: all "
        "models are measured on the same resampled sessions."
    )
    tables = {f"Metrics at {facts.cutoff}": _tabulate_summary(facts, facts.cutoff)}
    folded = {f"Metrics at {cutoff}": _tabulate_summary(facts, cutoff) for cutoff in facts.cutoffs[:-1]}
    folded |= {
        _name_difference(facts, facts.title(name, short=True)): _tabulate_differences(facts, name)
        for name in facts.other_models
    }
    return Section("metrics", "Metrics", say, charts, tables, folded)


def build_coverage_section(facts: ReportFacts) -> Section:
    """Build coverage, popularity bias, and times if they were measured."""
    own = facts.values[facts.models[0]]
    times = [name for name in own if TIMES in name]
    present = [facts.at(name) for name in BEYOND if facts.at(name) in own] + times
    title = "Coverage, popularity bias and time" if times else "Coverage and popularity bias"
    if not present:
        return Section("coverage", title, missing="This verdict does not have these metrics.")
    say = (
        "Coverage is the share of the catalogue that is recommended at least once. Popularity bias is the mean number "
        "of training events of recommended items, as a share of the most popular item's: lower is less biased."
    )
    every = [name for name in own if name.startswith(BEYOND) or name in times]
    return Section(
        "coverage",
        title,
        say,
        [_draw_values(facts, name) for name in present],
        folded={"Numbers at every cutoff": _tabulate(facts, every)},
    )


def _draw_values(facts: ReportFacts, metric: str) -> Chart:
    rows = [(name, facts.values[name].get(metric, ReportedValue(None))) for name in facts.models]
    known = [(name, value) for name, value in rows if value.value is not None]
    merit = not (lower_is_better(metric) or TIMES in metric)
    digits, span = _count_digits(metric), compute_value_span(known, merit=merit)
    better = "higher is better" if merit else "lower is better"
    name, _, cutoff = metric.partition("@")
    title = f"{TITLES.get(name, name)}{f' at {cutoff}' if cutoff else ''}"
    alt = f"{title}, {better}: " + "; ".join(
        f"{_get_short_title(facts)(name)} {format_estimate(value, digits)}" for name, value in known
    )
    own = facts.values[facts.models[0]][metric].value
    figure = draw_whiskers(known, facts.models, span, own, digits, sign=False, titled=_get_short_title(facts))
    return Chart(f"dots-{metric}", title, alt, figure, note=_describe_far(span.far))


def _draw_differences(facts: ReportFacts, metric: str) -> Chart:
    rows = [(name, facts.differences[name].get(metric, ReportedValue(None))) for name in facts.other_models]
    known = [(name, value) for name, value in rows if value.value is not None]
    span = compute_difference_span(known)
    alt = f"{_name_difference(facts, 'each other model')}, {metric}: "
    alt += "; ".join(f"{_get_short_title(facts)(name)} {format_estimate(value, 4)}" for name, value in known)
    better = f"a model is better than {facts.models[0]}" if facts.comparison else "the challenger is better"
    note = f"Right of the line {better}. A whisker that crosses the line means no clear difference. "
    figure = draw_whiskers(known, facts.models, span, 0.0, 4, sign=True, titled=_get_short_title(facts))
    title = f"{_name_difference(facts, 'others')}, {metric}"
    return Chart(f"differences-{metric}", title, alt, figure, note=note + _describe_far(span.far))


def _name_difference(facts: ReportFacts, other: str) -> str:
    """Name a difference: a verdict's is the challenger's, a comparison's is from its first model."""
    if facts.comparison:
        return f"{other[:1].upper()}{other[1:]} minus {facts.models[0]}"
    return f"Challenger minus {other}"


def _get_short_title(facts: ReportFacts) -> Callable[[str], str]:
    return partial(facts.title, short=True)


def _describe_far(far: Iterable[str]) -> str:
    return f"An arrow marks a model beyond the end of the axis: {', '.join(sorted(far))}." if far else ""


def _tabulate_summary(facts: ReportFacts, cutoff: int) -> ReportTable:
    measured = facts.values[facts.models[0]]
    at_cutoff = [f"{name}@{cutoff}" for name in (*RANKING, *BEYOND) if f"{name}@{cutoff}" in measured]
    return _tabulate(facts, [*at_cutoff, *(name for name in measured if "@" not in name)])


def _tabulate(facts: ReportFacts, columns: list[str]) -> ReportTable:
    """Build a row for each model and a column for each metric, with the interval below its number."""
    rows = []
    for name in facts.models:
        estimates = [(metric, facts.values[name].get(metric, ReportedValue(None))) for metric in columns]
        rows.append(
            [
                facts.title(name),
                *(format_estimate(value, _count_digits(metric)).replace(", ", "\n") for metric, value in estimates),
            ]
        )
    return ReportTable(["model", *columns], rows)


def _tabulate_differences(facts: ReportFacts, other: str) -> ReportTable:
    words = {1: "higher", -1: "lower", 0: "not clearly different"}
    rows = [
        [
            metric,
            format_number(value.value),
            format_interval(value, 4),
            NONE if value.lower is None else words[value.sign],
        ]
        for metric, value in facts.differences[other].items()
    ]
    subject = other if facts.comparison else "the challenger"
    return ReportTable(["metric", "difference", f"{facts.confidence} interval", f"{subject} is"], rows)


def _count_digits(metric: str) -> int:
    return 2 if TIMES in metric else 4
