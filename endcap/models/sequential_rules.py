"""Sequential rules: what followed the session's last items, and how soon (Ludewig and Jannach, 2018)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array

from endcap.features.sessions import Ints, Sessions
from endcap.models.base import FitReport, Fitting, Model, ModelState
from endcap.models.rows import expand_ranges, find_latest_places, split_runs
from endcap.spec.model import SequentialRulesSpec

_RUN_RULES = 2_000_000  # that are added up together
PUBLISHED = {"last_events": 1, "decay": 1.0, "norm": "none"}
"""What a model file means that lacks these: the rules as published, which release 0.1.0 had alone."""


class SequentialRules(Model):
    """An item's score is the sum of the rules to it from the items of the session's last events.

    Attributes
    ----------
    starts, followers, weights
        The rules in compressed rows: those of item a are starts[a]:starts[a+1] of the other two.

    Notes
    -----
    The rule a -> b weighs the sum of 1/gap over all places where b stands `gap` <= `steps` events after a (SR with
    linear weights: Ludewig and Jannach, 2018, "Evaluation of session-based recommendation algorithms", section 3.1).
    With `norm: sqrt` it is divided by sqrt(c_a + c_b), where c is an item's number of training events. The sums grow
    with the number of events of both items, so that popular items would win by that alone; shares of all events would
    put the rarest items first. (Deshpande and Karypis, 2004, section 4.1.2, lie between the two, by powers of c_b. This
    form did best on the validation parts of five logs.)

    Of the last `last_events` events, the j-th from the end weighs decay^(j-1); a repeated item has its latest weight.
    `last_events: 1, norm: none` are the published rules, of the last event alone. An item that no rule leads to has no
    score.
    """

    name = "sequential-rules"
    specification = SequentialRulesSpec

    def __init__(self, parameters: SequentialRulesSpec) -> None:
        self.parameters = parameters
        self.n_items = 0
        self.starts = np.zeros(1, dtype=np.int64)
        self.followers = np.zeros(0, dtype=np.int32)
        self.weights = np.zeros(0, dtype=np.float32)

    def fit(self, train: Sessions, n_items: int, fitting: Fitting) -> FitReport:
        owner = train.session_of_event
        longest = int(train.lengths.max(initial=0))
        rules = coo_array((n_items, n_items), dtype=np.float64).tocsr()
        for gap in range(1, min(self.parameters.steps, longest - 1) + 1):
            before = np.flatnonzero(owner[:-gap] == owner[gap:])
            places = (train.items[before], train.items[before + gap])
            rules = rules + coo_array((np.full(len(before), 1.0 / gap), places), shape=rules.shape).tocsr()
        rules.sort_indices()
        self.n_items = n_items
        self.starts = rules.indptr.astype(np.int64)
        self.followers = rules.indices.astype(np.int32)
        if self.parameters.norm == "sqrt":
            events = np.bincount(train.items, minlength=n_items)
            rules.data /= np.sqrt(np.repeat(events, np.diff(rules.indptr)) + events[rules.indices])
        self.weights = rules.data.astype(np.float32)
        return FitReport()

    def score(self, sessions: Sessions) -> NDArray[np.float32]:
        scores = np.zeros((len(sessions), self.n_items), dtype=np.float32)
        for begin, end, rows, followers, strengths in self._list_rules(sessions):
            np.add.at(scores[begin:end].reshape(-1), rows * self.n_items + followers, strengths)
        scores[scores == 0] = -np.inf
        return scores

    def score_items(self, sessions: Sessions, items: Sequence[NDArray[np.int32]]) -> list[NDArray[np.float32]]:
        """See `Model.score_items`."""
        scores = []
        for begin, end, rows, followers, strengths in self._list_rules(sessions):
            edges = np.searchsorted(rows, np.arange(end - begin + 1))
            for indices, first, stop in zip(items[begin:end], edges[:-1], edges[1:], strict=True):
                # Of memory that is asked for as nought only what is touched is made.
                total = np.zeros(self.n_items, dtype=np.float32)
                np.add.at(total, followers[first:stop], strengths[first:stop])
                values = total[indices]
                values[values == 0] = -np.inf
                scores.append(values)
        return scores

    def _list_rules(
        self, sessions: Sessions
    ) -> Iterator[tuple[int, int, Ints, NDArray[np.int32], NDArray[np.float32]]]:
        """Yield runs of sessions begin:end with all rules that add to their scores.

        A run is (begin, end, sessions less begin, ascending, items that the rules lead to, what the rules add).
        """
        last = sessions.last(self.parameters.last_events)
        rows, items, places = find_latest_places(last)
        recency = np.float32(self.parameters.decay) ** (last.lengths[rows] - places).astype(np.float32)
        counts = self.starts[items + 1] - self.starts[items]
        for begin, end in split_runs(np.bincount(rows, counts, minlength=len(sessions)) / _RUN_RULES):
            part = slice(*np.searchsorted(rows, (begin, end)))
            rules = expand_ranges(self.starts[items[part]], counts[part])
            strengths = np.repeat(recency[part], counts[part]) * self.weights[rules]
            yield begin, end, np.repeat(rows[part] - begin, counts[part]), self.followers[rules], strengths

    def get_state(self) -> ModelState:
        return ModelState({"starts": self.starts, "followers": self.followers, "weights": self.weights})

    def set_state(self, state: ModelState) -> None:
        arrays = state.arrays
        self.starts, self.followers, self.weights = arrays["starts"], arrays["followers"], arrays["weights"]

    @classmethod
    def read_parameters(cls, document: Mapping[str, Any]) -> SequentialRulesSpec:
        return SequentialRulesSpec.model_validate({**PUBLISHED, **document})
