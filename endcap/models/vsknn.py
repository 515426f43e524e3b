"""Vector multiplication session-based k nearest neighbours (V-SKNN; Ludewig and Jannach, 2018)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from endcap.features.sessions import Ints, Sessions
from endcap.models.base import FitReport, Fitting, Model, ModelState
from endcap.models.rows import expand_ranges, find_latest_places, split_runs
from endcap.spec.model import VSKNNSpec

_CHUNK_VISITS = 200_000  # sessions looked at together: keeps the working arrays in the cache
_CHUNK_SCORES = 4_000_000


class VSKNN(Model):
    """Sessions that share items with the query vote for their items (V-SKNN; Ludewig and Jannach, 2018).

    Attributes
    ----------
    holder_starts, holders
        Item i is held by sessions holders[holder_starts[i]:holder_starts[i+1]], ascending: the most recent first.
        Training sessions are numbered from the most recent, 0, on.
    held_starts, held
        Session s holds the distinct items held[held_starts[s]:held_starts[s+1]].

    Notes
    -----
    Of the query's last L events, the j-th of n weighs j/n; a repeated item has its latest weight. For each of these
    items the m most recent training sessions that hold it are candidates (by last event; of equal times the later in
    order). A session's similarity is the sum of the weights of the items that it holds. The k most similar sessions
    vote (ties: the more recent). An item's score is the sum, over the voters that hold it, of similarity * max(0, 1 -
    d/10) * (1 + idf_weight * idf / 12): d is how many events before the query's end the latest shared item stands, and
    idf = ln(sessions / sessions with the item).
    """

    name = "vsknn"
    specification = VSKNNSpec

    def __init__(self, parameters: VSKNNSpec) -> None:
        self.parameters = parameters
        self._set_index(0, {"holder_starts": np.zeros(1, np.int64), "holders": np.zeros(0, np.int32)}, 0)

    def fit(self, train: Sessions, n_items: int, fitting: Fitting) -> FitReport:
        filled = np.flatnonzero(train.lengths)
        ends = train.times[train.offsets[1:][filled] - 1]
        number = np.empty(len(train), dtype=np.int64)
        number[filled[np.lexsort((-filled, -ends))]] = np.arange(len(filled))
        # Sorted distinct pairs (item, session): the events of one item lie together, its most recent sessions first.
        pairs = np.unique(train.items * np.int64(len(filled)) + number[train.session_of_event])
        items, sessions = np.divmod(pairs, max(len(filled), 1))
        starts = _compute_starts(items, n_items)
        self._set_index(n_items, {"holder_starts": starts, "holders": sessions.astype(np.int32)}, len(filled))
        return FitReport()

    def _set_index(self, n_items: int, arrays: Mapping[str, NDArray[Any]], n_sessions: int) -> None:
        """Set the index of holders, and derive all else from it."""
        self.n_items, self.n_sessions = n_items, n_sessions
        self.holder_starts, self.holders = arrays["holder_starts"], arrays["holders"]
        counts = np.diff(self.holder_starts)
        pairs = (np.ones(len(self.holders), np.int8), self.holders, self.holder_starts)
        turned = csr_array(pairs, shape=(n_items, n_sessions)).tocsc()
        self.held, self.held_starts = turned.indices.astype(np.int32, copy=False), turned.indptr.astype(np.int64)
        idf = np.log(n_sessions / np.maximum(counts, 1)) if n_sessions else np.zeros(n_items)
        self.boost = 1.0 + self.parameters.idf_weight * idf / 12.0

    def score(self, sessions: Sessions) -> NDArray[np.float32]:
        scores = np.full((len(sessions), self.n_items), -np.inf, dtype=np.float32)
        for first, end, rows, held, votes in self._list_votes(sessions):
            total = np.bincount(rows * self.n_items + held, votes, minlength=(end - first) * self.n_items)
            voted = np.flatnonzero(total > 0)
            scores[first:end].reshape(-1)[voted] = total[voted]
        return np.divide(scores, self._count_used_events(sessions)[:, None], out=scores)

    def score_items(self, sessions: Sessions, items: Sequence[NDArray[np.int32]]) -> list[NDArray[np.float32]]:
        """See `Model.score_items`: votes for other items are skipped, so that the catalogue's size does not matter."""
        scores = []
        for first, end, rows, held, votes in self._list_votes(sessions):
            starts = np.searchsorted(rows, np.arange(end - first + 1))
            for indices, begin, stop in zip(items[first:end], starts[:-1], starts[1:], strict=True):
                listed, place = np.unique(indices, return_inverse=True)
                position = np.searchsorted(listed, held[begin:stop])
                matches = np.flatnonzero(np.append(listed, -1)[position] == held[begin:stop])
                total = np.bincount(position[matches], votes[begin:stop][matches], minlength=len(listed))
                scores.append(np.where(total > 0, total, -np.inf).astype(np.float32)[place])
        return [values / length for values, length in zip(scores, self._count_used_events(sessions), strict=True)]

    def _count_used_events(self, sessions: Sessions) -> NDArray[np.float32]:
        """Return n of each session. Weights j stand for j/n: the division comes last, when it can break no tie of
        sessions.
        """
        return np.clip(sessions.lengths, 1, self.parameters.last_events).astype(np.float32)

    def _list_votes(
        self, sessions: Sessions
    ) -> Iterator[tuple[int, int, Ints, NDArray[np.int32], NDArray[np.float64]]]:
        """Yield runs of sessions first:end with all votes: (first, end, sessions less first, items, votes)."""
        rows, items, places = find_latest_places(sessions.last(self.parameters.last_events))
        counts = np.minimum(self.holder_starts[items + 1] - self.holder_starts[items], self.parameters.sample)
        visits = np.bincount(rows, counts, minlength=len(sessions))
        for first, end in split_runs(visits / _CHUNK_VISITS + self.n_items / _CHUNK_SCORES):
            part = slice(*np.searchsorted(rows, (first, end)))
            row, session, strength = self._find_voters(rows[part] - first, items[part], places[part], counts[part])
            votes = self.held_starts[session + 1] - self.held_starts[session]
            held = self.held[expand_ranges(self.held_starts[session], votes)]
            yield first, end, np.repeat(row, votes), held, np.repeat(strength, votes) * self.boost[held]

    def _find_voters(
        self, rows: Ints, items: Ints, places: Ints, counts: Ints
    ) -> tuple[Ints, Ints, NDArray[np.float64]]:
        """Return the k nearest sessions of each row: their rows, their numbers, and n * similarity * decay."""
        width = max(self.n_sessions, 1)
        visits = np.repeat(rows, counts) * width + self.holders[expand_ranges(self.holder_starts[items], counts)]
        # One number sorts many times as fast as an order of two.
        bits = int(self.parameters.last_events).bit_length()
        both = np.sort((visits << bits) + np.repeat(places, counts))
        visits, visit_places = both >> bits, both & ((1 << bits) - 1)
        heads = np.flatnonzero(np.diff(visits, prepend=-1))
        voters = visits[heads]
        similarity = np.add.reduceat(visit_places, heads) if len(heads) else heads
        latest = np.maximum.reduceat(visit_places, heads) if len(heads) else heads
        self._add_unsampled(voters, similarity, latest, rows, items, places, counts)
        # One sort by (row, similarity falling, most recent first), then the first k of each row.
        row, session = np.divmod(voters, width)
        most = self.parameters.last_events * (self.parameters.last_events + 1) // 2
        order = np.argsort((row * (most + 1) + most - similarity) * width + session)
        row = row[order]
        starts = np.searchsorted(row, row)
        kept = np.arange(len(row)) - starts < self.parameters.neighbours
        order, row = order[kept], row[kept]
        lengths = np.zeros(int(rows.max(initial=0)) + 1, dtype=np.int64)
        np.maximum.at(lengths, rows, places)
        decay = np.maximum(0.0, 1.0 - 0.1 * (lengths[row] - latest[order]))
        return row, session[order], similarity[order] * decay

    def _add_unsampled(
        self, voters: Ints, similarity: Ints, latest: Ints, rows: Ints, items: Ints, places: Ints, counts: Ints
    ) -> None:
        """Add, in place, items that a voter holds though it is not among the item's m most recent sessions."""
        width = max(self.n_sessions, 1)
        first, end = self.holder_starts[items] + counts, self.holder_starts[items + 1]
        cut = np.flatnonzero(end > first)
        begins = np.searchsorted(voters, rows[cut] * width + self.holders[first[cut] - 1] + 1)
        ends = np.searchsorted(voters, (rows[cut] + 1) * width)
        for pair, begin, stop in zip(cut.tolist(), begins.tolist(), ends.tolist(), strict=True):
            older = self.holders[first[pair] : end[pair]]
            sessions = voters[begin:stop] - rows[pair] * width
            place = np.minimum(np.searchsorted(older, sessions), len(older) - 1)
            hit = begin + np.flatnonzero(older[place] == sessions)
            similarity[hit] += places[pair]
            latest[hit] = np.maximum(latest[hit], places[pair])

    def get_state(self) -> ModelState:
        arrays = {"holder_starts": self.holder_starts, "holders": self.holders}
        return ModelState(arrays, {"n_sessions": self.n_sessions})

    def set_state(self, state: ModelState) -> None:
        self._set_index(self.n_items, state.arrays, state.settings["n_sessions"])


def _compute_starts(rows: NDArray[Any], size: int) -> Ints:
    """Return the offsets of compressed rows, int64 [size + 1], from the row of each entry, in any order."""
    return np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=size))]).astype(np.int64)
