"""The messages of a search while it runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta

from endcap.progress import Advance
from endcap.spec.base import format_duration
from endcap.training.search.allocation import TrialShare
from endcap.training.search.record import WRITTEN, ModelTrials, Trial


def format_seconds(seconds: float) -> str:
    """Write whole seconds for people, such as 90s."""
    return format_duration(timedelta(seconds=max(0, round(seconds))))


def describe_end(share: TrialShare, trial: Trial, part: ModelTrials, left: float) -> str:
    """Describe a trial that ended. left: seconds of the search's time."""
    epochs = f" after {trial.epochs} epochs" if trial.epochs else ""
    value = f", next_ndcg@20 {trial.value:.4f}" if trial.value is not None else ""
    why = f": {trial.error}" if trial.error else ""
    name = f"{share.label} trial" if share.label else "trial"
    standing = f"{_describe_best(part)}, {format_seconds(left)} left"
    return f"{name} {trial.number}/{share.trials} {trial.state}{epochs}{value}{why}  ({standing})"


def describe_progress(
    share: TrialShare, part: ModelTrials, running: Iterable[int], done: float, whole: float
) -> Advance:
    """Describe how far a search is.

    Parameters
    ----------
    share
        The model's share of the search.
    part
        Its trials.
    running
        Numbers of running trials.
    done, whole
        Seconds that have passed, and seconds in all.
    """
    named = ", ".join(f"{number} (epoch {part.trials[number].epochs + 1})" for number in sorted(running))
    name = f"{share.label}: " if share.label else ""
    line = (
        f"{name}{len(part.ended)} of {share.trials} trials ended, running {named or 'none yet'}; "
        f"{_describe_best(part)}; {format_seconds(whole - done)} left"
    )
    return Advance(line, done=min(round(done), round(whole)), whole=max(1, round(whole)))


def describe_finishing(label: str, part: ModelTrials, numbers: Sequence[int], seconds: float) -> str:
    """Describe which trials continue after the time for trials, for `seconds` at most."""
    named = " and ".join(_name_trial(part, number) for number in numbers)
    suffix = f" of {label}" if label else ""
    verb = "goes" if len(numbers) == 1 else "go"
    return f"nothing more{suffix} is tried; {named} {verb} on for {format_seconds(seconds)} at most"


def describe_finished(label: str, part: ModelTrials, seconds: float) -> str:
    """Describe the outcome of the trials that continued, and how many seconds that took."""
    reached = "; ".join(_describe_reached(part, number) for number in part.finishing)
    suffix = f" {label}" if label else ""
    return f"finished{suffix} in {seconds:.1f} s: {reached} ({_describe_best(part)})"


def _name_trial(part: ModelTrials, number: int) -> str:
    trial = part.trials.get(number)
    after = f", {trial.value:.4f} after {trial.epochs} epochs" if trial is not None and trial.value is not None else ""
    return f"trial {number} ({'as the spec has it' if number == WRITTEN else 'its best rival'}{after})"


def _describe_reached(part: ModelTrials, number: int) -> str:
    trial = part.trials.get(number)
    if trial is None or trial.value is None:
        return f"trial {number} ended no epoch"
    return f"trial {number} {trial.state} after {trial.epochs} epochs, next_ndcg@20 {trial.value:.4f}"


def _describe_best(part: ModelTrials) -> str:
    best = part.best
    return (
        "none has a value yet"
        if best is None or best.value is None
        else f"best {best.value:.4f} of trial {best.number}"
    )
