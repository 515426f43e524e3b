"""How many queries and targets a test has, and warnings about them."""

from __future__ import annotations

from typing import Any

import numpy as np

from endcap.evaluation.verdict_text import format_share
from endcap.features.empty_parts import count_one_moment
from endcap.features.queries import QueryTargets
from endcap.features.view import View
from endcap.spec.settings import JudgeSettings

MANY_EQUAL = 0.05
"""Warnings begin at this share of test transitions with equal times, and of test sessions of one moment."""
Json = dict[str, Any]


def count_queries(settings: JudgeSettings, view: View, predictions: QueryTargets) -> Json:
    """Count what the models of a verdict were asked.

    Returns
    -------
    dict
        `protocol`, `order` and `basket` as in the spec; `predictions`, the number of queries; `targets`; `sessions`;
        and `equal_times`: the test's `transitions`, how many are `equal` in time, and their `share`. A verdict stores
        it.
    """
    equal, transitions = view.counts["test"]["equal_times"], view.counts["test"]["transitions"]
    return {
        "protocol": view.protocol,
        "order": view.order,
        "basket": settings.basket,
        "predictions": len(predictions.first),
        "targets": len(predictions),
        "sessions": len(predictions.sessions),
        "equal_times": {"transitions": transitions, "equal": equal, "share": _divide(equal, transitions)},
    }


def warn_of_equal_times(settings: JudgeSettings, view: View) -> str:
    """Return a sentence if many test transitions have equal times, else an empty text. Baskets have no order to warn
    of."""
    equal, transitions = view.counts["test"]["equal_times"], view.counts["test"]["transitions"]
    if settings.basket is not None or _divide(equal, transitions) < MANY_EQUAL:
        return ""
    finding = f"{equal:,} of {transitions:,} test transitions ({format_share(equal / transitions)}) have equal times"
    if view.order == "file":
        return (
            f"evaluation.order is file: {finding}. Their order is that of the files, and the figures depend on it. If "
            "a till or an export sorts lines, models that look at the last item seem better than they are. With "
            "evaluation.order: sets no figure depends on that order"
        )
    predictions = view.predictions("test")
    several = int((np.bincount(predictions.row, minlength=1) > 1).sum())
    return (
        f"{finding}: {several:,} of {len(predictions.first):,} predictions have several targets, because several items "
        "came at one time. Each target counts a share, and is ranked as if the others did not exist"
    )


def warn_of_one_moment(settings: JudgeSettings, view: View) -> str:
    """Return a sentence if many sessions have one time for all their events, so that they are not judged."""
    alone, sessions = count_one_moment(view.counts, "test")
    if _divide(alone, sessions) < MANY_EQUAL:
        return ""
    return (
        f"{alone:,} of {sessions:,} sessions ({format_share(alone / sessions)}) have one time for all their events: "
        "no item comes next in them, so they are not judged. evaluation.protocol: basket judges them: it hides an item "
        "of the basket (basket: complete), or predicts the basket from the customer's earlier ones (basket: next)"
    )


def warn_of_baskets(settings: JudgeSettings, view: View) -> str:
    """Return a sentence if next baskets are predicted and some baskets or items cannot be."""
    if settings.basket != "next":
        return ""
    counts, predictions = view.counts["test"], view.predictions("test")
    first, anonymous = counts["first_sessions"], counts["anonymous_sessions"]
    findings = []
    if first or anonymous:
        findings.append(
            f"{counts['sessions']:,} baskets are judged; {first:,} are not because they are the first of their "
            f"customers, and {anonymous:,} are not because they name no customer"
        )
    if settings.exclude == "seen" and (again := _count_repeats(predictions)):
        findings.append(
            f"exclude is seen, so {again:,} of {len(predictions):,} targets are misses for every model: their "
            "customers had met them before"
        )
    return f"evaluation.basket is next: {'; '.join(findings)}" if findings else ""


def _count_repeats(predictions: QueryTargets) -> int:
    """Count the targets that are in their own query too."""
    prefixes, width = predictions.prefixes(), int(predictions.sessions.items.max(initial=0)) + 1
    met = prefixes.session_of_event * width + prefixes.items
    return int(np.isin(predictions.row * width + predictions.targets, met).sum())


def _divide(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
