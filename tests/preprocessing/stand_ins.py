"""Preprocessors that use all that a step may use: what comes later, types, features, items, customers, state."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from safetensors.numpy import load_file, save_file

from endcap.features.sessions import Sessions
from endcap.preprocessing import Preprocessor, Training, where
from endcap.spec.base import Strict

ROOM = "tests.preprocessing.stand_ins"


class _Step(Preprocessor):
    class Parameters(Strict):
        pass

    def __init__(self, parameters: Any) -> None:
        self.parameters = parameters


class DropGlances(_Step):
    """Drops an event that the next one of its session follows within `ms`: a longer session may have less."""

    class Parameters(Strict):
        ms: int = 1500

    def transform(self, sessions: Sessions) -> Sessions:
        stayed = np.diff(sessions.times, append=0)
        stayed[sessions.offsets[1:][sessions.lengths > 0] - 1] = np.iinfo(np.int64).max
        return where(sessions, stayed > self.parameters.ms)


class DropType(_Step):
    """Drops the events of one type."""

    class Parameters(Strict):
        type: str = "cart"

    def transform(self, sessions: Sessions) -> Sessions:
        if sessions.types is None:
            return sessions
        return where(sessions, sessions.types.told_by([self.parameters.type]) == 0)


class LastOfRegulars(_Step):
    """Of customers with two training sessions or more the last event alone counts."""

    def fit(self, training: Training) -> None:
        who, sessions = np.unique(training.sessions.customers, return_counts=True)
        self.regulars = who[(sessions > 1) & (who >= 0)]

    def transform(self, sessions: Sessions) -> Sessions:
        regular = np.isin(sessions.customers, self.regulars)[sessions.session_of_event]
        last = np.zeros(len(sessions.items), dtype=np.bool_)
        last[sessions.offsets[1:][sessions.lengths > 0] - 1] = True
        return where(sessions, last | ~regular)

    @property
    def known_customers(self) -> Any:
        return self.regulars

    def save(self, folder: Path) -> None:
        (folder / "regulars.json").write_text(json.dumps(self.regulars.tolist()))

    @classmethod
    def load(cls, folder: Path, parameters: Any) -> Self:
        step = cls(parameters)
        step.regulars = np.array(json.loads((folder / "regulars.json").read_text()), dtype=np.int32)
        return step


class ToCheapest(_Step):
    """Puts the cheapest item of its category in an item's place, and says in a feature whether it was another."""

    def fit(self, training: Training) -> None:
        assert training.items is not None
        assert not {"events", "first_seen"} & set(training.items.column_names)
        categories = np.array(training.items["category"].to_pylist())
        prices = training.items["price"].to_numpy()
        cheapest = [np.flatnonzero(categories == one)[np.argmin(prices[categories == one])] for one in categories]
        self.cheapest = np.array(cheapest, dtype=np.int32).reshape(-1)

    def transform(self, sessions: Sessions) -> Sessions:
        items = self.cheapest[sessions.items]
        other = (items != sessions.items).astype(np.float32)
        return replace(sessions, items=items, features={**sessions.features, "other": other})

    def save(self, folder: Path) -> None:
        save_file({"cheapest": self.cheapest}, folder / "state.safetensors")

    @classmethod
    def load(cls, folder: Path, parameters: Any) -> Self:
        step = cls(parameters)
        step.cheapest = load_file(folder / "state.safetensors")["cheapest"]
        return step


class SlowBefore(_Step):
    """Drops the events before the last long pause, by the shop's feature `gap`."""

    class Parameters(Strict):
        seconds: float = 60.0

    def transform(self, sessions: Sessions) -> Sessions:
        place = np.arange(len(sessions.items))
        begins = np.where(sessions.features["gap"] >= self.parameters.seconds, place, 0)
        owner = sessions.session_of_event
        latest = sessions.offsets[:-1].copy()
        np.maximum.at(latest, owner, begins)
        return where(sessions, place >= latest[owner])


class Broken(_Step):
    """Breaks the contract in one way."""

    class Parameters(Strict):
        how: str = "none"

    def transform(self, sessions: Sessions) -> Any:
        items, how = sessions.items, self.parameters.how
        if how == "fewer":
            return sessions.take(np.arange(len(sessions) - 1))
        if how == "outside":
            return replace(sessions, items=items + np.int32(1_000_000))
        if how == "dtype":
            return replace(sessions, items=items.astype(np.int64))
        if how == "times":
            return replace(sessions, times=sessions.times[1:])
        if how == "feature":
            return replace(sessions, features={**sessions.features, "new": np.zeros(len(items))})
        if how == "all":
            return where(sessions, np.zeros(len(items), dtype=np.bool_))
        if how == "list":
            return [items]
        if how == "batch":  # what a session is depends on the others
            return where(sessions, items == items.max(initial=0))
        if how == "writes":
            items[:] = 0
        return sessions

    def save(self, folder: Path) -> None:
        if self.parameters.how == "pickle":
            (folder / "state.pkl").write_bytes(b"")


def step(name: str, **parameters: Any) -> dict[str, Any]:
    """A step as under `preprocessing:` in a spec."""
    return {"class": f"{ROOM}:{name}", "parameters": parameters}
