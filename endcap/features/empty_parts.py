"""Errors that explain why a split leaves nothing to learn from, or nothing to judge on."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from endcap.errors import DataError
from endcap.features.split import LEFT_OUT, NEVER, Boundaries
from endcap.spec.base import format_duration
from endcap.spec.settings import ViewSettings
from endcap.spec.split import GivenSplit, LeaveOneOutSplit, TimeSplit

BASKETS = (
    "Set evaluation.protocol to basket, with evaluation.basket: complete (an item of each session from its others) or "
    "next (a customer's basket from the customer's earlier ones)"
)
"""What to do if each session is one moment."""
Json = dict[str, Any]


def refuse_empty_training(
    settings: ViewSettings, cuts: Boundaries, counts: Mapping[str, Any], span: tuple[int, int]
) -> None:
    """Raise DataError if a split by time leaves no training sessions.

    `counts` are those of a view. `span` is the time of the log's first and last event, epoch ms.
    """
    split = settings.split
    if counts["train"]["sessions"] or isinstance(split, LeaveOneOutSplit):
        return
    smaller = "split.validation" if isinstance(split, GivenSplit) else "split.test or split.validation"
    log = f"{_describe_size(counts)}, from {_format_moment(span[0])} to {_format_moment(span[1])}"
    validation = f"split.validation: {_format_part(split.validation)} begins {_format_moment(cuts.validation)}"
    raise DataError(
        f"{_begin_message(settings)} training sessions. The log has {log}; {_describe_test(split, cuts)}{validation}. "
        f"Set {smaller} smaller, or use a longer log",
        code="features.no-training-sessions",
        recommender=settings.name,
        split=split.model_dump(mode="json"),
        test_begins=None if cuts.test == NEVER else cuts.test,
        validation_begins=None if cuts.validation == NEVER else cuts.validation,
        **_count_all(counts),
    )


def refuse_empty_test(settings: ViewSettings, cuts: Boundaries, counts: Mapping[str, Any]) -> None:
    """Raise DataError if there are no test sessions. `counts` are those of a view."""
    tested, split = counts["test"], settings.split
    if tested["sessions"]:
        return
    _refuse_baskets(settings, counts)
    _refuse_one_moment(settings, counts)
    if isinstance(split, GivenSplit) and not tested["unseen_events"] + tested["short_events"]:
        raise DataError(
            f"{_begin_message(settings)} test sessions: the shop {settings.shop!r} has no events of `part: test`. "
            "Give one of its sources `part: test`, or set split.by to 'time'",
            code="features.no-test-source",
            recommender=settings.name,
            shop=settings.shop,
        )
    if isinstance(split, LeaveOneOutSplit):
        reason = (
            f"leave-one-out needs sessions of more than {LEFT_OUT} events whose last item is in other sessions too, "
            f"and {tested['short_sessions']:,} end with an item that no other session has. Set split.by to 'time', or "
            "use a longer log"
        )
    else:
        least = "two distinct items" if settings.basket == "complete" else "two events"
        longer = "Set split.test larger" if isinstance(split, TimeSplit) else "Give more sources of `part: test`"
        reason = (
            f"{_describe_test(split, cuts)}{tested['unseen_events']:,} test events are of items that the training part "
            f"lacks, and {tested['short_sessions']:,} test sessions have fewer than {least} left. {longer}"
        )
    raise DataError(
        f"{_begin_message(settings)} test sessions out of {_describe_size(counts)}: {reason}",
        code="features.no-test-sessions",
        **_collect_fields(settings, counts),
    )


def count_one_moment(counts: Mapping[str, Any], part: str) -> tuple[int, int]:
    """Count a part's sessions of one moment, and its sessions altogether.

    For leave-one-out these are the sessions of the whole log, because its parts have none of one moment.
    """
    if "one_moment_sessions" in counts["all"]:
        return counts["all"]["one_moment_sessions"], counts["all"]["sessions"]
    of_part = counts[part].get("one_moment_sessions", 0)
    return of_part, of_part + counts[part]["sessions"]


def explain_no_validation(counts: Mapping[str, Any]) -> str:
    """Explain why a view has no validation sessions, and what to do."""
    alone, _ = count_one_moment(counts, "validation")
    if alone:
        return f"no validation session has a next item: {alone:,} have one time for all their events. {BASKETS}"
    return "there are no validation sessions. Set split.validation larger"


def _refuse_one_moment(settings: ViewSettings, counts: Mapping[str, Any]) -> None:
    sessions, _ = count_one_moment(counts, "test")
    if sessions:
        split = "Set split.by to time. " if isinstance(settings.split, LeaveOneOutSplit) else ""
        reason = (
            f"{sessions:,} sessions have one time for all their events, so that no item comes next. {split}{BASKETS}. "
            "If the files are in the order in which the events happened, set evaluation.order to file"
        )
        raise DataError(
            f"{_begin_message(settings)} test sessions with a next item out of {_describe_size(counts)}: {reason}",
            code="features.one-moment-sessions",
            **{**_collect_fields(settings, counts), "one_moment_sessions": sessions},
        )


def _refuse_baskets(settings: ViewSettings, counts: Mapping[str, Any]) -> None:
    if settings.basket != "next":
        return
    tested = counts["test"]
    if tested["first_sessions"]:
        reason = (
            f"{tested['first_sessions']:,} are the first baskets of their customers, and evaluation.basket: next needs "
            "customers who come back. Use a longer log, or set evaluation.basket to complete"
        )
        raise DataError(
            f"{_begin_message(settings)} test sessions with an earlier basket, of {_describe_size(counts)}: {reason}",
            code="features.first-baskets",
            **_collect_fields(settings, counts),
        )
    if tested["anonymous_sessions"]:
        reason = (
            f"{tested['anonymous_sessions']:,} test sessions name no customer, and evaluation.basket: next needs "
            "events.columns.customer in the shop. Name the column, or set evaluation.basket to complete"
        )
        raise DataError(
            f"{_begin_message(settings)} test sessions of customers out of {_describe_size(counts)}: {reason}",
            code="features.no-customers",
            **_collect_fields(settings, counts),
        )


def _collect_fields(settings: ViewSettings, counts: Mapping[str, Any]) -> Json:
    judged: Json = {"recommender": settings.name, "split": settings.split.model_dump(mode="json")}
    return {**judged, **counts["test"], **_count_all(counts)}


def _begin_message(settings: ViewSettings) -> str:
    return f"recommender {settings.name!r}: the split leaves no"


def _describe_size(counts: Mapping[str, Any]) -> str:
    return f"{counts['all']['sessions']:,} sessions of {counts['all']['events']:,} events"


def _count_all(counts: Mapping[str, Any]) -> Json:
    return {"of_sessions": counts["all"]["sessions"], "of_events": counts["all"]["events"]}


def _describe_test(split: TimeSplit | GivenSplit, cuts: Boundaries) -> str:
    return (
        f"split.test: {_format_part(split.test)} begins {_format_moment(cuts.test)} and "
        if isinstance(split, TimeSplit)
        else ""
    )


def _format_part(part: Any) -> str:
    return f"{part:g}" if isinstance(part, float) else format_duration(part)


def _format_moment(moment: int) -> str:
    return "never" if moment == NEVER else datetime.fromtimestamp(moment / 1000, UTC).isoformat(timespec="seconds")
