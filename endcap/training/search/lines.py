"""What a search says while it goes on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta

from endcap.progress import Advance
from endcap.spec.base import format_duration
from endcap.training.search.record import WRITTEN, Part, Trial
from endcap.training.search.shares import Share


def duration(seconds: float) -> str:
    """Whole seconds, in words such as 90s."""
    return format_duration(timedelta(seconds=max(0, round(seconds))))


def ended(share: Share, trial: Trial, part: Part, left: float) -> str:
    """A trial's line."""
    epochs = f" after {trial.epochs} epochs" if trial.epochs else ""
    value = f", next_ndcg@20 {trial.value:.4f}" if trial.value is not None else ""
    why = f": {trial.error}" if trial.error else ""
    name = f"{share.label} trial" if share.label else "trial"
    standing = f"{_best(part)}, {duration(left)} left"
    return f"{name} {trial.number}/{share.trials} {trial.state}{epochs}{value}{why}  ({standing})"


def going_on(share: Share, part: Part, running: Iterable[int], done: float, whole: float) -> Advance:
    """How a search stands. running: numbers of trials. done, whole: seconds."""
    named = ", ".join(f"{number} (epoch {part.trials[number].epochs + 1})" for number in sorted(running))
    name = f"{share.label}: " if share.label else ""
    line = (
        f"{name}{len(part.ended)} of {share.trials} trials ended, running {named or 'none yet'}; {_best(part)}; "
        f"{duration(whole - done)} left"
    )
    return Advance(line, done=min(round(done), round(whole)), whole=max(1, round(whole)))


def finishing(label: str, part: Part, numbers: Sequence[int], seconds: float) -> str:
    """Which trials go on when nothing more is tried, for so many seconds at most."""
    named = " and ".join(_named(part, number) for number in numbers)
    of = f" of {label}" if label else ""
    return (
        f"nothing more{of} is tried; {named} go{'es' if len(numbers) == 1 else ''} on for {duration(seconds)} at most"
    )


def finished(label: str, part: Part, seconds: float) -> str:
    """What became of the trials that went on, and how long that took."""
    reached = "; ".join(_reached(part, number) for number in part.finishing)
    of = f" {label}" if label else ""
    return f"finished{of} in {seconds:.1f} s: {reached} ({_best(part)})"


def _named(part: Part, number: int) -> str:
    trial = part.trials.get(number)
    after = f", {trial.value:.4f} after {trial.epochs} epochs" if trial is not None and trial.value is not None else ""
    return f"trial {number} ({'as the spec has it' if number == WRITTEN else 'its best rival'}{after})"


def _reached(part: Part, number: int) -> str:
    trial = part.trials.get(number)
    if trial is None or trial.value is None:
        return f"trial {number} ended no epoch"
    return f"trial {number} {trial.state} after {trial.epochs} epochs, next_ndcg@20 {trial.value:.4f}"


def _best(part: Part) -> str:
    best = part.best
    return (
        "none has a value yet"
        if best is None or best.value is None
        else f"best {best.value:.4f} of trial {best.number}"
    )
