"""Sessions as flat arrays: what models are fitted on and asked about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Types:
    """The types of events. codes: int16 [e], 1 + the type's place in `names`, 0 where it is none or not said."""

    names: tuple[str, ...]
    codes: NDArray[np.int16]

    def __getitem__(self, events: Ints | NDArray[np.bool_] | slice) -> Types:
        """The types of these events."""
        return Types(self.names, self.codes[events])

    def told_by(self, names: Sequence[str]) -> NDArray[np.int16]:
        """Their codes by other names."""
        place = {name: number for number, name in enumerate(names, 1)}
        return np.array([0, *(place.get(name, 0) for name in self.names)], dtype=np.int16)[self.codes]

    @classmethod
    def of(cls, events: Sequence[str | None]) -> Types:
        """From each event's type."""
        names = tuple(dict.fromkeys(name for name in events if name is not None))
        place: dict[str | None, int] = {name: number for number, name in enumerate(names, 1)} | {None: 0}
        return cls(names, np.array([place[name] for name in events], dtype=np.int16))


@dataclass(frozen=True)
class Sessions:
    """`n` sessions with `e` events in all, in compressed rows: session i holds events offsets[i]:offsets[i+1].

    items: int32 [e], index into the view's vocabulary. times: int64 [e], epoch milliseconds (UTC), not falling within
    a session. offsets: int64 [n+1]. customers: int32 [n], -1 where unknown. features: each [e], by feature name.
    types: of the events; None where the shop declares no feature of them.
    """

    items: NDArray[np.int32]
    times: Ints
    offsets: Ints
    customers: NDArray[np.int32]
    features: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    types: Types | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Ints:
        """Events of each session: int64 [n]."""
        return self.offsets[1:] - self.offsets[:-1]

    @property
    def starts(self) -> Ints:
        """The time of each session's first event, 0 without one: int64 [n]."""
        starts = np.zeros(len(self), dtype=np.int64)
        filled = self.lengths > 0
        starts[filled] = self.times[self.offsets[:-1][filled]]
        return starts

    @property
    def session_of_event(self) -> Ints:
        """Which session each event belongs to: int64 [e]."""
        return np.repeat(np.arange(len(self), dtype=np.int64), self.lengths)

    def take(self, index: NDArray[np.int64] | NDArray[np.bool_]) -> Sessions:
        """The sessions at these positions (or under this mask), in that order."""
        rows = np.flatnonzero(index) if index.dtype == np.bool_ else index.astype(np.int64)
        lengths = self.lengths[rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        events = np.arange(offsets[-1]) + np.repeat(self.offsets[:-1][rows] - offsets[:-1], lengths)
        return self._pick(events, offsets, self.customers[rows])

    def last(self, count: int) -> Sessions:
        """Each session's last `count` events."""
        if self.lengths.max(initial=0) <= count:
            return self
        lengths = np.minimum(self.lengths, count)
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        events = np.arange(offsets[-1]) + np.repeat(self.offsets[1:] - lengths - offsets[:-1], lengths)
        return self._pick(events, offsets, self.customers)

    def beginnings(self, index: Ints, ends: Ints) -> Sessions:
        """The first ends[i] events of session index[i]: int64 [p] both; sessions [p], in that order."""
        offsets = np.concatenate([[0], np.cumsum(ends)]).astype(np.int64)
        events = np.arange(offsets[-1]) + np.repeat(self.offsets[:-1][index] - offsets[:-1], ends)
        return self._pick(events, offsets, self.customers[index])

    def prefixes(self) -> tuple[Sessions, NDArray[np.int32], Ints]:
        """Every proper prefix of every session, with the item that followed it and the session it is of.

        A session of length l gives its prefixes of length 1 to l - 1. Returns (prefixes [p], next items int32 [p],
        session index int64 [p]).
        """
        counts = np.maximum(self.lengths - 1, 0)
        owner = np.repeat(np.arange(len(self), dtype=np.int64), counts)
        ends = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + 1
        return self.beginnings(owner, ends), self.items[self.offsets[:-1][owner] + ends], owner

    @classmethod
    def concat(cls, parts: Sequence[Sessions]) -> Sessions:
        """Sessions of several batches of one dataset, one or more, behind each other."""
        first = parts[0]
        edges = np.cumsum([0, *(part.offsets[-1] for part in parts)])
        offsets = [first.offsets[:1], *(part.offsets[1:] + edge for part, edge in zip(parts, edges, strict=False))]
        types = [part.types for part in parts if part.types is not None]
        return cls(
            np.concatenate([part.items for part in parts]),
            np.concatenate([part.times for part in parts]),
            np.concatenate(offsets),
            np.concatenate([part.customers for part in parts]),
            {name: np.concatenate([part.features[name] for part in parts]) for name in first.features},
            Types(types[0].names, np.concatenate([part_types.codes for part_types in types])) if types else None,
        )

    def _pick(self, events: Ints, offsets: Ints, customers: NDArray[np.int32]) -> Sessions:
        features = {name: values[events] for name, values in self.features.items()}
        types = None if self.types is None else self.types[events]
        return Sessions(self.items[events], self.times[events], offsets, customers, features, types)

    @classmethod
    def of(cls, items: Sequence[Sequence[int]], times: Sequence[Sequence[int]] | None = None) -> Sessions:
        """Sessions from lists of item indices; without times, events are one second apart."""
        lengths = np.array([len(session) for session in items], dtype=np.int64)
        flat = np.array([item for session in items for item in session], dtype=np.int32)
        clock = [list(range(0, 1000 * len(session), 1000)) for session in items] if times is None else times
        flat_times = np.array([moment for session in clock for moment in session], dtype=np.int64)
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        return cls(flat, flat_times, offsets, np.full(len(lengths), -1, dtype=np.int32))
