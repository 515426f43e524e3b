"""What the models of a verdict were asked: how many predictions of what, and how much of it hangs on equal times."""

from __future__ import annotations

from typing import Any

import numpy as np

from endcap.evaluation.headline import format_share
from endcap.features.empty_parts import count_one_moment
from endcap.features.queries import QueryTargets
from endcap.features.view import View
from endcap.spec.settings import JudgeSettings

MANY_EQUAL = 0.05
"""The share of test transitions with equal times, and of test sessions of one moment, from which it is warned of."""
Json = dict[str, Any]


def count_queries(settings: JudgeSettings, view: View, predictions: QueryTargets) -> Json:
    """As a verdict has it.

    `protocol`, `order` and `basket` of the spec; `predictions`, how many prefixes, and `targets`, how many items of
    theirs; `sessions`; `equal_times`: the test's `transitions`, how many are `equal` in time, and their `share`.
    """
    equal, transitions = view.counts["test"]["equal_times"], view.counts["test"]["transitions"]
    return {
        "protocol": view.protocol,
        "order": view.order,
        "basket": settings.basket,
        "predictions": len(predictions.first),
        "targets": len(predictions),
        "sessions": len(predictions.sessions),
        "equal_times": {"transitions": transitions, "equal": equal, "share": _share(equal, transitions)},
    }


def warn_of_equal_times(settings: JudgeSettings, view: View) -> str:
    """A sentence where many test transitions have equal times; baskets are asked about as what they are."""
    equal, transitions = view.counts["test"]["equal_times"], view.counts["test"]["transitions"]
    if settings.basket is not None or _share(equal, transitions) < MANY_EQUAL:
        return ""
    told = f"{equal:,} of {transitions:,} test transitions ({format_share(equal / transitions)}) have equal times"
    if view.order == "file":
        return (
            f"evaluation.order is file: {told}, so their order is that of the files, and so are the figures. Where a "
            "till or an export sorts lines, models that look at the last item seem better than they are; with "
            "evaluation.order: sets no figure hangs on that"
        )
    predictions = view.predictions("test")
    several = int((np.bincount(predictions.row, minlength=1) > 1).sum())
    return (
        f"{told}: {several:,} of {len(predictions.first):,} predictions are of moments with several items, each of "
        "which counts a share and is ranked as if the others were not there"
    )


def warn_of_one_moment(settings: JudgeSettings, view: View) -> str:
    """A sentence where many sessions are one moment, and so not judged."""
    alone, sessions = count_one_moment(view.counts, "test")
    if _share(alone, sessions) < MANY_EQUAL:
        return ""
    return (
        f"{alone:,} of {sessions:,} sessions ({format_share(alone / sessions)}) have one time for all their events: "
        "nothing comes next in them, and they are not judged. evaluation.protocol: basket judges them, by an item that "
        "is hidden (basket: complete) or from the customer's earlier ones (basket: next)"
    )


def warn_of_baskets(settings: JudgeSettings, view: View) -> str:
    """A sentence where customers' next baskets are predicted: which are not, and what is left out of lists."""
    if settings.basket != "next":
        return ""
    counts, predictions = view.counts["test"], view.predictions("test")
    first, anonymous = counts["first_sessions"], counts["anonymous_sessions"]
    told = []
    if first or anonymous:
        told.append(
            f"{first:,} baskets are the first of their customers and {anonymous:,} name no customer, beside "
            f"{counts['sessions']:,} that are judged"
        )
    if settings.exclude == "seen" and (again := _bought_before(predictions)):
        told.append(
            f"exclude is seen, so {again:,} of {len(predictions):,} items, which their customers met before, are "
            "misses for every model"
        )
    return f"evaluation.basket is next: {'; '.join(told)}" if told else ""


def _bought_before(predictions: QueryTargets) -> int:
    """How many items that are predicted are in the prefixes too."""
    prefixes, width = predictions.prefixes(), int(predictions.sessions.items.max(initial=0)) + 1
    met = prefixes.session_of_event * width + prefixes.items
    return int(np.isin(predictions.row * width + predictions.targets, met).sum())


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
