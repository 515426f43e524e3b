"""The description of a dataset: its sessions, their lengths, and events of one session at one time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

Json = dict[str, Any]
QUANTILES = {"min": 0.0, "lower": 0.25, "median": 0.5, "upper": 0.75, "most": 0.99, "max": 1.0}
LENGTHS = {"1": 1, "2": 2, "3": 3, "4": 4, "5": 5, "6-10": 10, "11-20": 20, "21-50": 50, "51-100": 100, "101+": None}
"""Bands of a session's length, by the most events that it has."""
_ROWS = 1_000_000


def describe_dataset(folder: Path) -> Json:
    """Describe the sessions of a dataset's folder, after its filters.

    Returns
    -------
    dict
        JSON values: `lengths`, events per session as `mean`, QUANTILES and numbers of sessions by LENGTHS (`bands`);
        `minutes`, from a session's first event to its last, without bands; `transitions`, the number of pairs of
        neighbouring events of a session; `equal_times`, the pairs of one time, whose order is that of the files;
        `one_moment`, the number of sessions of several events that all have one time.
    """
    with pq.ParquetFile(folder / "sessions.parquet") as file:
        sessions = file.read(columns=["start", "end", "events"])
    lengths = sessions["events"].to_numpy()
    took = sessions["end"].to_numpy() - sessions["start"].to_numpy()
    transitions, equal = _count_transitions(folder / "events.parquet")
    return {
        "lengths": {**_compute_quantiles(lengths), "bands": _count_bands(lengths)},
        "minutes": _compute_quantiles(took / 60_000),
        "transitions": transitions,
        "equal_times": equal,
        "one_moment": int(np.count_nonzero((lengths > 1) & (took == 0))),
    }


def _count_transitions(file: Path) -> tuple[int, int]:
    """Count neighbours within a session, and those of one time. Events are sorted by session and time."""
    pairs = equal = 0
    last: tuple[int, int] | None = None
    with pq.ParquetFile(file) as events:
        for batch in events.iter_batches(_ROWS, columns=["session", "time"]):
            session, time = batch["session"].to_numpy(), batch["time"].to_numpy()
            within = session[1:] == session[:-1]
            pairs += int(np.count_nonzero(within))
            equal += int(np.count_nonzero(within & (time[1:] == time[:-1])))
            if last is not None and last[0] == session[0]:
                pairs, equal = pairs + 1, equal + int(last[1] == time[0])
            last = (session[-1], time[-1])
    return pairs, equal


def _compute_quantiles(values: NDArray[Any]) -> dict[str, float]:
    if not len(values):
        return {}
    places = {name: min(len(values) - 1, math.floor(share * len(values))) for name, share in QUANTILES.items()}
    ordered = np.partition(values, sorted(set(places.values())))
    return {"mean": round(float(values.mean()), 2)} | {
        name: round(float(ordered[place]), 2) for name, place in places.items()
    }


def _count_bands(lengths: NDArray[Any]) -> Mapping[str, int]:
    limits = [events for events in LENGTHS.values() if events is not None]
    counts = np.bincount(np.searchsorted(limits, lengths), minlength=len(LENGTHS))
    return {name: int(count) for name, count in zip(LENGTHS, counts, strict=True)}
