"""What a search has tried so far: kept in the step's workspace, so that a killed search goes on."""

from __future__ import annotations

import dataclasses
import math
import secrets
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from endcap.models import checkpoint
from endcap.spec.tunable import Values

State = Literal["running", "complete", "pruned", "failed"]
"""pruned: stopped before its end, by the scheduler or because the time was up; what it reached counts."""
Row = dict[str, float]
Found = dict[str, Any]
CUT_OFF = "it was stopped before its first epoch ended"
_SAVED_EVERY = 1.0


@dataclass
class Trial:
    """One setting. value: the best validation next_ndcg@20 of its epochs, or of the fitted model; None: not known."""

    number: int
    parameters: Values
    state: State = "running"
    value: float | None = None
    history: list[Row] = field(default_factory=list)
    found: Found | None = None
    """What its fit found out; None where it was stopped before it could say."""
    seconds: float = 0.0
    error: str | None = None
    """Why it failed: in an attempt before, where it runs again."""
    attempt: int = 1
    """Counts up each time that it is put back after a failed search."""

    def add(self, row: Mapping[str, float]) -> None:
        """Take an epoch's row; one that is known, because the trial began anew, is replaced."""
        others = [known for known in self.history if known["epoch"] != row["epoch"]]
        self.history = sorted([*others, dict(row)], key=lambda known: known["epoch"])
        grade = row.get("validation")
        if grade is not None and math.isfinite(grade):
            grades = [value for known in self.history if math.isfinite(value := known.get("validation", math.nan))]
            self.value = max(grades)

    @property
    def epochs(self) -> int:
        """How many epochs it ran."""
        return len(self.history)

    def put_back(self) -> None:
        """After a failure: to be tried again, from its beginning. The reason stays until it gets further."""
        self.state, self.value, self.history, self.found, self.seconds = "running", None, [], None, 0.0
        self.attempt += 1

    def cut_off(self) -> None:
        """It was stopped before its end, and counts with what it reached."""
        if self.value is not None:
            self.state, self.error = "pruned", None
        else:
            self.state, self.error = "failed", self.error or CUT_OFF

    def outcome(self) -> Found:
        """What its fit found out, or for a fit that was cut off: the epoch of its best value."""
        if self.found is not None or not self.history:
            return dict(self.found or {})
        best = max(self.history, key=lambda row: row.get("validation", -math.inf))
        return {"epochs": int(best["epoch"])}

    def facts(self) -> dict[str, Any]:
        """The trial as the trained model's facts have it."""
        known: dict[str, Any] = {
            "number": self.number,
            "state": self.state,
            "parameters": self.parameters,
            "value": self.value,
            "epochs": self.epochs,
            "seconds": round(self.seconds, 3),
            "history": self.history,
        }
        return known | ({"error": self.error} if self.error else {})


@dataclass
class Part:
    """The trials of one model: of a blend's member, or the only one."""

    trials: dict[int, Trial] = field(default_factory=dict)
    over: bool = False

    def of(self, *states: State) -> list[Trial]:
        """The trials in any of these states, by number."""
        return [trial for _, trial in sorted(self.trials.items()) if trial.state in states]

    @property
    def ended(self) -> list[Trial]:
        """Those that are not running."""
        return self.of("complete", "pruned", "failed")

    @property
    def best(self) -> Trial | None:
        """The trial of the highest value (the earlier of equals), failed ones apart; None before any has one."""
        valued = [trial for trial in self.of("running", "complete", "pruned") if trial.value is not None]
        return max(valued, key=lambda trial: (trial.value, -trial.number), default=None)

    def end(self) -> None:
        """It is over: what still runs was stopped, and counts with what it reached."""
        for trial in self.of("running"):
            trial.cut_off()
        self.over = True


class Record:
    """The trials of a search by the labels of its models, and the seconds it took over all attempts."""

    def __init__(self, folder: Path, key: str, labels: Iterable[str]) -> None:
        """key: what the search is of; a record of another is not read."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._key = folder, key
        self._saved, self._begun = -math.inf, time.monotonic()
        found = checkpoint.read(folder, key)
        fresh = {"identity": secrets.token_hex(8), "seconds": 0.0, "parts": {}}
        state: dict[str, Any] = found[0] if found is not None else fresh
        self.identity: str = state["identity"]
        """Of this search, over all attempts; one that begins anew, of the same settings even, has another."""
        self._before = float(state["seconds"])
        self.parts = {label: _part(state["parts"].get(label, {})) for label in labels}
        if found is None:
            self.save()

    @property
    def seconds(self) -> float:
        """Wall time of the search so far, that of earlier attempts included."""
        return self._before + time.monotonic() - self._begun

    def start_clock(self) -> None:
        """Count from now: the wait for a cluster's nodes is no time of the search."""
        self._begun = time.monotonic()

    def put_back_failures(self) -> None:
        """For another attempt: what failed is tried again, under its number, with as large a share of the time.

        So the same cause fails the search again. What never came to run stays so, where others had the time.
        """
        tried = back = 0
        for part in self.parts.values():
            again = [one for one in part.of("failed") if one.error != CUT_OFF or part.best is None]
            for trial in again:
                trial.put_back()
            part.over = part.over and not again
            tried, back = tried + len(part.trials), back + len(again)
        if tried:
            self._before, self._begun = self.seconds * (1 - back / tried), time.monotonic()
        self.save()

    def save(self) -> None:
        """Write it now."""
        parts = {label: dataclasses.asdict(part) for label, part in self.parts.items()}
        # JSON has no keys that are numbers.
        lists = {label: {**part, "trials": list(part["trials"].values())} for label, part in parts.items()}
        checkpoint.write(
            self._folder, self._key, {"identity": self.identity, "seconds": self.seconds, "parts": lists}, {}
        )
        self._saved = time.monotonic()

    def save_soon(self) -> None:
        """Write it unless that was done within the last second: an epoch more or less is no loss."""
        if time.monotonic() - self._saved > _SAVED_EVERY:
            self.save()


def _part(state: Mapping[str, Any]) -> Part:
    trials = [Trial(**entry) for entry in state.get("trials", [])]
    return Part({trial.number: trial for trial in trials}, bool(state.get("over", False)))
