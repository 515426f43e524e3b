"""A verdict's figures as rows: what is printed, and what frames hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from endcap.spec.gate import P90_MS
from endcap.spec.naming import description, title

Json = dict[str, Any]
SHOWN = ("hr", "mrr", "next_ndcg", "ndcg", "recall", "coverage")


def metric_table(facts: Mapping[str, Any]) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Columns and rows of a verdict: a row a model, its metrics at the deepest cutoff, the interval of its MRR."""
    models, known = facts["metrics"], facts.get("models", {})
    cutoff = max(int(name.partition("@")[2] or 0) for values in models.values() for name in values)
    wanted = [*(f"{name}@{cutoff}" for name in SHOWN), P90_MS]
    # A verdict of an earlier release lacks metrics that came later.
    names = [name for name in wanted if all(name in metrics for metrics in models.values())]
    columns = ["model", *names, f"{facts['confidence']:.0%} of mrr@{cutoff}"]
    rows = []
    for name, metrics in models.items():
        lower, upper = facts["intervals"][name][f"mrr@{cutoff}"]
        rows.append((title(name, known), *(metrics[metric] for metric in names), f"{lower:.4f} to {upper:.4f}"))
    return columns, rows


def metric_rows(facts: Mapping[str, Any]) -> list[Json]:
    """All metrics of a verdict with their intervals, a row a model."""
    rows = []
    for name, metrics in facts["metrics"].items():
        row: Json = {"model": name}
        if model := facts.get("models", {}).get(name):
            row["description"] = description(model)
        for metric, value in metrics.items():
            row[metric] = value
            if metric in facts["intervals"][name]:
                row[f"{metric}_lower"], row[f"{metric}_upper"] = facts["intervals"][name][metric]
        rows.append(row)
    return rows


def named_as(facts: Mapping[str, Any], names: Mapping[str, str]) -> Json:
    """The facts of a verdict with these of its models alone, each under another name."""
    kept = {key: {names[name]: facts[key][name] for name in names} for key in ("metrics", "intervals")}
    return {**facts, **kept}
