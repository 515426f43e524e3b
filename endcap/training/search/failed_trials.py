"""Refuses trials that make no search: too many failed, or none reached a value."""

from __future__ import annotations

from collections import Counter

from endcap.errors import UserError
from endcap.spec.base import format_duration
from endcap.spec.search import SearchSpec
from endcap.training.search.budget import get_finish_time
from endcap.training.search.record import ModelTrials, SearchRecord

_SHOWN_REASONS = 5


def summarise_reasons(part: ModelTrials) -> str:
    """Say why trials of a model failed, or if none failed why trials were skipped; empty if neither is the case."""
    trials = part.of("failed") or part.of("skipped")
    reasons = Counter(trial.error or "no reason known" for trial in trials).most_common(_SHOWN_REASONS)
    return "; ".join(f"{reason} ({count} times)" if count > 1 else reason for reason, count in reasons)


def refuse_failures(label: str, part: ModelTrials, search: SearchSpec, record: SearchRecord) -> None:
    """Raise UserError if the trials make no search. Another attempt then tries the failed ones again.

    Parameters
    ----------
    label
        The model's label, empty if it is the only one.
    part
        Its trials.
    search
        The search's settings.
    record
        The search's record.
    """
    failed, tried = part.of("failed"), len(part.trials)
    if part.best is not None and len(failed) <= search.max_failed_share * max(tried, 1):
        return
    suffix = f" of {label}" if label else ""
    reasons, is_skipped = summarise_reasons(part), bool(part.of("skipped"))
    record.put_back_failures()
    if failed:
        raise UserError(
            f"{len(failed)} of {tried} trials{suffix} failed, and search.max_failed_share allows "
            f"{search.max_failed_share:.0%}: "
            f"{reasons}; correct the cause, or fix or narrow the parameters that bring it (search.fixed, search.space)",
            code="search.too-many-failed",
            failed=len(failed),
            trials=tried,
            limit=search.max_failed_share,
            reasons=reasons,
        )
    if is_skipped:
        raise UserError(
            f"no trial{suffix} was begun: {reasons}; give the step more memory (pipeline.steps.train), or take another "
            "model",
            code="search.too-large",
            reasons=reasons,
        )
    limit, finish = format_duration(search.time_budget), format_duration(get_finish_time(search))
    raise UserError(
        f"the search{suffix} ended after {limit}, and {finish} to finish, before any trial ended its first epoch; set "
        "search.time_budget longer, or try a smaller model",
        code="search.time-over",
        limit=limit,
        finish=finish,
        trials=tried,
    )
