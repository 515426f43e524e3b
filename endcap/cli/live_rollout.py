"""A rollout that shoppers decide within seconds, as the demos show it: a line a look, then the decision and why."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from endcap.errors import EndcapError
from endcap.store import Store

if TYPE_CHECKING:
    from datetime import datetime

    from endcap.rollout.history import RolloutHistory
    from endcap.spec.rollout import RolloutSpec

WIDTH = 100
_POLL = 0.3
_QUIET = 5.0
"""Seconds of a rollout that a line may stand for, as long as nothing changes."""
_QUIET_EVENTS = ("rollout-changed", "routed", "predictor-ready", "predictor-ended", "loading")
_ROOM = 60.0
"""Seconds past the policy's longest duration that a decision may take."""


def print_policy(policy: RolloutSpec) -> None:
    """Print a policy of seconds in words, and how the lines of its looks are read."""
    from endcap.experiments.decision_parts import format_change, format_share
    from endcap.spec.base import format_duration

    metric = policy.deciding_metric
    steps = ", ".join(f"{format_share(step.share)} above {format_change(step.worst)}" for step in policy.share_steps)
    guardrails = ", ".join(guardrail.name for guardrail in policy.guardrails)
    goal = format_change(policy.allowed_loss) if policy.allowed_loss else "0"
    echo_wrapped(
        f"A version begins with {format_share(policy.first_share)} of the shoppers. Its share rises by the lower bound "
        f"of its effect on {metric.name}: to {steps}. It is promoted once that bound lies above {goal} "
        f"({policy.promote}). It is taken back once it is shown to harm {metric.name}, or once a guardrail breaks "
        f"({guardrails}). A version that changes nothing is taken back in at most "
        f"{format_share(policy.error_budget)} of the rollouts."
    )
    echo_wrapped(
        f"Time is shortened: a click counts within {format_duration(metric.window)}, it is reported within "
        f"{format_duration(metric.delay)}, a look comes every {format_duration(policy.look_every)}, and many shoppers "
        "come each second. These are real seconds of real servers. In a shop they are minutes and days."
    )
    echo_wrapped(
        f"A line below is a look: the time, the version's share, and its effect on {metric.name} in per cent, with the "
        "band that holds at every look together. `o` is the effect, `[` to `]` is its band, `:` is no change."
    )


def print_event(event: Any) -> None:
    """Print what happens to the servers, a short line each. What the loop decides is read from its log."""
    fields = event.to_json()
    name = fields["event"]
    if name == "predictor-started":
        click.echo(f"  version {fields['version']} ({fields['variant']}) starts, process {fields['pid']}")
    elif name not in _QUIET_EVENTS:
        click.echo(f"  {event}")


def echo_wrapped(text: str) -> None:
    """Print a text in lines, indented."""
    click.echo(textwrap.fill(text, WIDTH, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False))


def follow_rollout(
    store: Store, recommender: str, policy: RolloutSpec, phase: str, reasons: Sequence[str]
) -> RolloutHistory:
    """Print the coming looks at a rollout until the loop has promoted the version or taken it back, and then why.

    Parameters
    ----------
    store, recommender
        Where its log is.
    policy
        Its policy.
    phase, reasons
        The phase that the story ends with, and the reasons that fit it.

    Returns
    -------
    RolloutHistory
        The rollout to this decision.

    Raises
    ------
    EndcapError
        It ended otherwise, or did not end in time.
    """
    from endcap.experiments.decision_log import DecisionLog
    from endcap.experiments.rollout_state import ENDED, GUARDED
    from endcap.rollout.history import read_history
    from endcap.rollout.screen import format_look, format_looks_head

    log = DecisionLog(store, recommender)
    deadline = time.monotonic() + policy.longest.total_seconds() + _ROOM
    click.echo(format_looks_head())
    last = log.find_last()
    shown = -1 if last is None else last.number
    printed: datetime | None = None
    while True:
        history = _cut_at_end(read_history(log))
        for entry in history.entries:
            if entry.number <= shown or entry.decision is None:
                continue
            shown = entry.number
            acts = entry.decision.action != "hold"
            if acts or printed is None or (entry.time - printed).total_seconds() >= _QUIET:
                click.echo(format_look(entry, policy))
                printed = entry.time
        if history.state.phase in ENDED | GUARDED or time.monotonic() > deadline:
            break
        time.sleep(_POLL)
    state = history.state
    if state.phase != phase or state.reason not in reasons:
        why = history.last.decision.sentence if history.last.decision else state.reason
        raise EndcapError(
            f"the rollout of version {state.version} is {state.phase}, which the demo does not expect: {why} On a busy "
            "machine shoppers come too slowly: run it again when nothing else runs",
            code="cli.demo-rollout-differs",
            version=state.version,
            phase=state.phase,
            reason=state.reason,
        )
    _print_end(history)
    return history


def _cut_at_end(history: RolloutHistory) -> RolloutHistory:
    """Return a rollout without what follows its decision: the loop goes on to look after a promotion."""
    from endcap.experiments.rollout_state import ENDED, GUARDED

    ends = (number for number, entry in enumerate(history.entries, 1) if entry.after.phase in ENDED | GUARDED)
    return replace(history, entries=history.entries[: next(ends, len(history.entries))])


def _print_end(history: RolloutHistory) -> None:
    from endcap.rollout.screen import format_guardrails

    decision = history.last.decision
    if history.state.reason == "guardrail-broken":
        for line in format_guardrails(history):
            click.echo(line)
    if decision is not None:
        click.echo(click.style(f"  {decision.action.replace('_', ' ')} ({decision.reason})", bold=True))
        echo_wrapped(decision.sentence)
