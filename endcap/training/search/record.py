"""The trials of a search, kept in a workspace of the store, so that a killed search continues."""

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

State = Literal["running", "complete", "pruned", "cut", "skipped", "failed"]
"""pruned: stopped by the scheduler; cut: stopped because the time was up. What either reached counts. skipped: not
begun, since it cannot fit into memory."""
Row = dict[str, float]
FitSettingsDocument = dict[str, Any]
Event = Mapping[str, Any]
WRITTEN = 1
"""The number of the trial that is the model as the spec has it."""
_SAVED_EVERY = 1.0


@dataclass
class Trial:
    """One setting of a model.

    Attributes
    ----------
    value
        The best validation next_ndcg@20 of its epochs, or of the fitted model; None: not known.
    history
        A row for each epoch.
    """

    number: int
    parameters: Values
    state: State = "running"
    value: float | None = None
    history: list[Row] = field(default_factory=list)
    fit_settings: FitSettingsDocument | None = None
    """What its fit chose (`FitReport.settings`); None where it was stopped before it could say. Stored as `found`."""
    seconds: float = 0.0
    error: str | None = None
    """Why it failed: in an attempt before, where it runs again."""
    attempt: int = 1
    """Counts up each time that it is put back after a failed search, or goes on after it had ended."""
    inherited: bool = False
    """Whether another search ran it: of the same settings, with another budget."""

    def to_json(self) -> dict[str, Any]:
        """Return the trial as it is stored; `from_json` takes it."""
        document = dataclasses.asdict(self)
        document["found"] = document.pop("fit_settings")
        return document

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Trial:
        """Return the trial that `to_json` wrote, in this release or an earlier one."""
        return cls(**{"fit_settings" if name == "found" else name: value for name, value in document.items()})

    def add(self, row: Mapping[str, float]) -> None:
        """Add an epoch's row; it replaces a row of the same epoch, if the trial started again."""
        earlier = [known for known in self.history if known["epoch"] != row["epoch"]]
        self.history = sorted([*earlier, dict(row)], key=lambda known: known["epoch"])
        grade = row.get("validation")
        if grade is not None and math.isfinite(grade):
            grades = [value for known in self.history if math.isfinite(value := known.get("validation", math.nan))]
            self.value = max(grades)

    @property
    def epochs(self) -> int:
        """Number of epochs that it ran."""
        return len(self.history)

    def put_back(self) -> None:
        """Make a failed trial one that is tried again, from its beginning. The reason stays until it gets further."""
        self.state, self.value, self.history, self.fit_settings, self.seconds = "running", None, [], None, 0.0
        self.attempt += 1

    def stop(self, state: Literal["pruned", "cut"]) -> None:
        """Note that the trial was stopped before its end; it counts with what it reached.

        A trial that failed in an attempt before, and did not get further in this one, stays failed.
        """
        if self.value is None and self.error:
            self.state = "failed"
        else:
            self.state, self.error = state, None

    def outcome(self) -> FitSettingsDocument:
        """Return what its fit chose; for a fit that was stopped, the epoch of its best value."""
        if self.fit_settings is not None or not self.history:
            return dict(self.fit_settings or {})
        best = max(self.history, key=lambda row: row.get("validation", -math.inf))
        return {"epochs": int(best["epoch"])}

    def facts(self) -> dict[str, Any]:
        """Return the trial as the trained model's facts describe it."""
        known: dict[str, Any] = {
            "number": self.number,
            "state": self.state,
            "parameters": self.parameters,
            "value": self.value,
            "epochs": self.epochs,
            "seconds": round(self.seconds, 3),
            "history": self.history,
        }
        known |= {"inherited": True} if self.inherited else {}
        return known | ({"error": self.error} if self.error else {})


@dataclass
class ModelTrials:
    """The trials of one model: of a blend's member, or of the only model."""

    trials: dict[int, Trial] = field(default_factory=dict)
    over: bool = False
    finishing: list[int] = field(default_factory=list)
    """Trials that went on after the search's time, up to their own end."""

    def of(self, *states: State) -> list[Trial]:
        """Return the trials in any of these states, by number."""
        return [trial for _, trial in sorted(self.trials.items()) if trial.state in states]

    @property
    def ended(self) -> list[Trial]:
        """The trials that are not running, by number."""
        return [trial for _, trial in sorted(self.trials.items()) if trial.state != "running"]

    @property
    def best(self) -> Trial | None:
        """The trial of the highest value that did not fail (the earlier of equals); None before any has a value."""
        valued = [trial for trial in self.of("running", "complete", "pruned", "cut") if trial.value is not None]
        return max(valued, key=lambda trial: (trial.value, -trial.number), default=None)

    @property
    def written(self) -> Trial | None:
        """The trial of the model as the spec has it; None: it has not started."""
        return self.trials.get(WRITTEN)

    def list_unfinished(self) -> list[int]:
        """Return the trials that continue when the time is up: the model as the spec has it, then its best rival.

        A rival continues if it is ahead, or if the model as the spec has it has not ended either. If none has a value,
        one that runs continues.
        """
        written = self.written
        open_ = written is None or written.state in ("running", "pruned", "cut")
        rivals = [trial for trial in self.of("running", "complete", "pruned", "cut") if trial.number != WRITTEN]
        rival = max(
            (trial for trial in rivals if trial.value is not None or trial.state == "running"),
            key=lambda trial: (-math.inf if trial.value is None else trial.value, -trial.number),
            default=None,
        )
        numbers = [WRITTEN] if open_ else []
        if rival is not None and rival.state != "complete" and (open_ or rival is self.best):
            numbers.append(rival.number)
        return numbers

    def take(self, event: Event) -> Trial | None:
        """Note an event of a trial; return the trial if it had started before."""
        number = event["number"]
        if event["event"] == "started":
            begun = self.trials.setdefault(number, Trial(number, event["parameters"]))
            begun.attempt += begun.state != "running"
            begun.state, begun.fit_settings = "running", None
            return None
        trial = self.trials.get(number)
        if trial is None:
            return None
        if event["event"] == "row":
            trial.add(event["row"])
            trial.seconds += float(event["row"].get("seconds", 0.0))
            return trial
        for row in event.get("history", []):
            trial.add(row)
        trial.seconds = max(trial.seconds, event.get("seconds", 0.0))
        trial.value, trial.fit_settings = event.get("value", trial.value), event.get("found")
        if event["state"] in ("pruned", "cut"):
            trial.stop(event["state"])
        else:
            trial.state, trial.error = event["state"], event.get("error")
        return trial

    def end(self) -> None:
        """End the search of this model: running trials were stopped, and count with what they reached."""
        for trial in self.of("running"):
            trial.stop("cut")
        self.over = True

    def inherit(self, trials: Iterable[Trial]) -> None:
        """Take trials of another search over. A trial that its time cut off is tried again, from its checkpoint if
        there is one.
        """
        self.over, self.finishing = False, []
        for trial in trials:
            if trial.state in ("complete", "pruned"):
                self.trials[trial.number] = dataclasses.replace(trial, inherited=True)
            elif trial.state in ("running", "cut"):
                self.trials[trial.number] = dataclasses.replace(trial, state="running")
            else:
                self.trials.pop(trial.number, None)


class SearchRecord:
    """The trials of a search, by the labels of its models, and the seconds that it took over all attempts.

    Parameters
    ----------
    folder
        Where the record is kept.
    key
        Key of what the trials depend on; a record of another key is not read.
    labels
        Labels of the models.
    search
        Key of what else the search depends on, such as its time. If the record is of another search, its trials are
        inherited, and its time counts.
    """

    def __init__(self, folder: Path, key: str, labels: Iterable[str], search: str = "") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._key, self._search = folder, key, search
        self._saved = -math.inf
        self._begun: float | None = time.monotonic()
        """None: the clock stands."""
        kept = checkpoint.read(folder, key)
        state: dict[str, Any] = kept[0] if kept is not None else {}
        self.is_new = kept is None
        another = state.get("search", search) != search
        self.identity: str = secrets.token_hex(8) if another or self.is_new else state["identity"]
        """Of this search, over all attempts; one that begins anew, of the same settings even, has another."""
        self._before = float(state.get("seconds", 0.0))
        self._finished = 0.0 if another else float(state.get("finish", 0.0))
        self._finish_begun: float | None = None
        self.parts = {label: _read_trials(state.get("parts", {}).get(label, {})) for label in labels}
        if another:
            self._before -= float(state.get("finish", 0.0))
            for part in self.parts.values():
                part.inherit(list(part.trials.values()))
        self.save()

    @property
    def seconds(self) -> float:
        """Wall time of the search so far, earlier attempts included."""
        return self._before + (0.0 if self._begun is None else time.monotonic() - self._begun)

    @property
    def finish_seconds(self) -> float:
        """The part of it for which trials continued after the search's time."""
        running = 0.0 if self._finish_begun is None else time.monotonic() - self._finish_begun
        return self._finished + running

    def begin_finish(self) -> None:
        """Count the time as that of finishing from now on, until `end_finish`."""
        if self._finish_begun is None:
            self._finish_begun = time.monotonic()

    def end_finish(self) -> float:
        """Stop counting the time as that of finishing, and return its seconds since `begin_finish`."""
        before, self._finished, self._finish_begun = self._finished, self.finish_seconds, None
        return self._finished - before

    def start_clock(self) -> None:
        """Count the time from now on: waiting for Ray, and for a cluster's nodes, is no time of the search."""
        self._begun = time.monotonic()

    def stop_clock(self) -> None:
        """Stop the clock: what follows is no time of the search."""
        self._before, self._begun = self.seconds, None

    def put_back_failures(self) -> None:
        """Make failed trials be tried again by another attempt, under their numbers, with their share of the time.

        So the same cause makes the search fail again. Trials that were cut off for lack of time stay so if others had
        the time.
        """
        tried = back = 0
        for part in self.parts.values():
            again = part.of("failed") if part.best is not None else part.of("failed", "cut", "skipped")
            for trial in again:
                trial.put_back()
            if again:
                part.over, part.finishing = False, []
            tried, back = tried + len(part.trials), back + len(again)
        if tried:
            self.end_finish()
            share = 1 - back / tried
            self._before, self._finished, self._begun = self.seconds * share, self._finished * share, time.monotonic()
        self.save()

    def save(self) -> None:
        """Write the record now."""
        lists = {
            label: {
                "trials": [trial.to_json() for trial in part.trials.values()],
                "over": part.over,
                "finishing": part.finishing,
            }
            for label, part in self.parts.items()
        }
        state = {
            "identity": self.identity,
            "search": self._search,
            "seconds": self.seconds,
            "finish": self.finish_seconds,
            "parts": lists,
        }
        checkpoint.write(self._folder, self._key, state, {})
        self._saved = time.monotonic()

    def save_soon(self) -> None:
        """Write the record, unless it was written within the last second: an epoch more or less is no loss."""
        if time.monotonic() - self._saved > _SAVED_EVERY:
            self.save()


def _read_trials(state: Mapping[str, Any]) -> ModelTrials:
    trials = [Trial.from_json(entry) for entry in state.get("trials", [])]
    known = {trial.number: trial for trial in trials}
    return ModelTrials(known, bool(state.get("over", False)), list(state.get("finishing", [])))
