"""Figures of a verdict and of a comparison as rows: what is printed, and what frames hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from endcap.spec.gate import P90_MS
from endcap.spec.model_summary import describe_model, format_title

Json = dict[str, Any]
SHOWN_METRICS = ("hr", "mrr", "next_ndcg", "ndcg", "recall", "coverage")
MAIN_METRIC = "mrr"
"""What models are held against each other by, at the deepest cutoff."""
BEST_MARK = "*"
"""The mark of a column's best."""


def build_metric_table(facts: Mapping[str, Any]) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Build columns and rows of a verdict: each model's metrics at the deepest cutoff, with its MRR's interval."""
    models, known = facts["metrics"], facts.get("models", {})
    cutoff = find_deepest_cutoff(facts)
    columns_shown = [*(f"{name}@{cutoff}" for name in SHOWN_METRICS), P90_MS]
    # A verdict of an earlier release lacks metrics that came later.
    names = [name for name in columns_shown if all(name in metrics for metrics in models.values())]
    columns = ["model", *names, f"{facts['confidence']:.0%} of mrr@{cutoff}"]
    rows = []
    for name, metrics in models.items():
        lower, upper = facts["intervals"][name][f"mrr@{cutoff}"]
        rows.append((format_title(name, known), *(metrics[metric] for metric in names), f"{lower:.4f} to {upper:.4f}"))
    return columns, rows


def build_metric_rows(facts: Mapping[str, Any]) -> list[Json]:
    """Build a row for each model of a verdict, with all metrics and their intervals."""
    rows = []
    for name in facts.get("labels", facts["metrics"]):
        row: Json = {"model": name}
        if model := facts.get("models", {}).get(name):
            row["description"] = describe_model(model)
        for metric, value in facts["metrics"][name].items():
            row[metric] = value
            if metric in facts["intervals"][name]:
                row[f"{metric}_lower"], row[f"{metric}_upper"] = facts["intervals"][name][metric]
        rows.append(row)
    return rows


def build_comparison_table(facts: Mapping[str, Any]) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Build columns and rows of a comparison, with the best of the compared models marked in each column.

    The metrics are those at the deepest cutoff with their intervals. The difference is that of the MRR from the first
    model's.
    """
    labels, cutoff = facts["labels"], find_deepest_cutoff(facts)
    compared = [label for label in labels if label in facts["trained"]]
    main = f"{MAIN_METRIC}@{cutoff}"
    metrics = [*(f"{name}@{cutoff}" for name in ("hr", MAIN_METRIC, "next_ndcg", "coverage")), P90_MS]
    best = {metric: find_best(facts, metric, compared) for metric in metrics} if len(compared) > 1 else {}
    rows = []
    for label in labels:
        cells = [_format_metric(facts, label, metric, mark=best.get(metric) == label) for metric in metrics]
        difference = facts["differences"].get(label, {}).get(main)
        rows.append(
            (format_title(label, facts["models"]), *cells, "" if difference is None else _format_difference(difference))
        )
    return ["model", *metrics, f"{main} minus {labels[0]}'s"], rows


def find_deepest_cutoff(facts: Mapping[str, Any]) -> int:
    """Return the deepest cutoff that was measured."""
    return max(int(name.partition("@")[2] or 0) for values in facts["metrics"].values() for name in values)


def find_best(facts: Mapping[str, Any], metric: str, labels: Sequence[str]) -> str:
    """Return the label of the best model, the first one of equals."""
    sign = -1 if metric == P90_MS else 1
    return max(labels, key=lambda label: sign * facts["metrics"][label][metric])


def _format_metric(facts: Mapping[str, Any], label: str, metric: str, *, mark: bool) -> str:
    value, interval = facts["metrics"][label][metric], facts["intervals"][label].get(metric)
    digits = 2 if metric == P90_MS else 4
    text = f"{value:.{digits}f}{BEST_MARK if mark else ' '}"
    between = metric != P90_MS and interval is not None
    return f"{text} {interval[0]:.{digits}f}-{interval[1]:.{digits}f}" if between else text.rstrip()


def _format_difference(numbers: Sequence[float]) -> str:
    value, lower, upper = numbers
    word = "better" if lower > 0 else "worse" if upper < 0 else "not told apart"
    return f"{value:+.4f} ({lower:+.4f} to {upper:+.4f}) {word}"
