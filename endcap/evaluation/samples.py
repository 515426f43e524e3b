"""A few test sessions as people read them: what was looked at, what came next, and what two models recommended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from endcap.evaluation.ranks import rank_predictions
from endcap.evaluation.scoring import EvaluatedModel
from endcap.features.queries import select_targets
from endcap.features.view import View
from endcap.models import NO_ITEM

Json = dict[str, Any]
_KINDS: tuple[dict[str, tuple[bool, ...]], ...] = (
    {"found": (True,), "missed": (False,)},
    {"both": (True, True), "challenger": (True, False), "other": (False, True), "neither": (False, False)},
)
"""Which of the models find what came next, by their number."""
DRAWN = 400
"""Sessions that are looked through: enough to find each kind in, and nothing beside the evaluation."""
OF_A_KIND = 3
LISTED = 10
EVENTS = 8
"""Events of a session that are shown, its latest."""
ALSO = 9
"""Other items of the moment that are shown."""
TITLES = ("title", "name")


class SampleSessions:
    """Sessions drawn by the seed, each asked about its last moment, and what the models recommend before that.

    Of a moment of several items one is asked for: that of the smallest index, which is the most popular."""

    def __init__(self, view: View, seed: int) -> None:
        drawn = np.random.default_rng(seed).permutation(len(view.test))[:DRAWN]
        baskets = view.baskets.get("test")
        self._sessions = view.test.take(drawn)
        self._predictions = select_targets(
            self._sessions, "leave-one-out", view.order, None if baskets is None else baskets.take(drawn)
        )
        self._view = view
        self._listed: dict[str, list[list[int | None]]] = {}
        self._ranks: dict[str, NDArray[np.int64]] = {}

    def ask(self, name: str, competitor: EvaluatedModel) -> None:
        """Have a model rank after each drawn session less its last moment."""
        blocks = list(rank_predictions(competitor, self._predictions, LISTED))
        first = self._predictions.first
        tops, listed, ranks = (
            np.concatenate([getattr(block, name) for block in blocks])[first] for name in ("tops", "listed", "ranks")
        )
        # What only the model knows of has no number in the test's vocabulary, but its place in the list.
        self._listed[name] = [
            [None if item == NO_ITEM else item for own, item in zip(*row, strict=True) if own != NO_ITEM]
            for row in zip(tops.tolist(), listed.tolist(), strict=True)
        ]
        self._ranks[name] = ranks

    def to_json(self, models: Sequence[str]) -> Json:
        """Some sessions of each kind; the first model is compared with the second, where there are two.

        `sessions` have `kind` (both, challenger, other, neither; found, missed of one model), `shown`, the latest
        events, with `earlier`, how many came before them, `next`, with `also`, the other items of its moment, and by
        model `lists` and `ranks` (0: not listed; without the others).
        An item has `item` (its id; None for one that the test's vocabulary lacks) and, where the item table knows one,
        `title`.
        """
        places = [place for kind in _KINDS[len(models) - 1].values() for place in self._of(kind, models)]
        sessions = [self._session(place, models) for place in places]
        return {"models": list(models), "cutoff": LISTED, "sessions": sessions}

    def _of(self, kind: tuple[bool, ...], models: Sequence[str]) -> list[int]:
        """The first sessions, in the order that they were drawn in, that these models find (True) and miss."""
        hits = np.column_stack([self._ranks[name] > 0 for name in models])
        return [int(place) for place in np.flatnonzero((hits == np.array(kind)).all(axis=1))[:OF_A_KIND]]

    def _session(self, place: int, models: Sequence[str]) -> Json:
        first = self._predictions.first[place]
        end, next_place = int(self._predictions.ends[first]), int(self._predictions.places[first])
        others_of_moment = self._predictions.targets[self._predictions.row == place][1 : ALSO + 1].tolist()
        begin = int(self._sessions.offsets[place])
        items = self._sessions.items[begin : begin + next_place + 1].tolist()
        hits = tuple(bool(self._ranks[name][place]) for name in models)
        kind = next(name for name, of_it in _KINDS[len(models) - 1].items() if of_it == hits)
        return {
            "kind": kind,
            "earlier": max(0, end - EVENTS),
            "shown": [self._item(item) for item in items[:end][-EVENTS:]],
            "next": self._item(items[next_place]),
            "also": [self._item(item) for item in others_of_moment],
            "lists": {name: self._list(name, place) for name in models},
            "ranks": {name: int(self._ranks[name][place]) for name in models},
        }

    def _list(self, model: str, place: int) -> list[Json]:
        return [{"item": None} if item is None else self._item(item) for item in self._listed[model][place]]

    def _item(self, item: int) -> Json:
        table = self._view.items
        titles = (table[name][item].as_py() for name in TITLES if name in table.column_names)
        title = next((str(value) for value in titles if value), None)
        return {"item": self._view.vocabulary.ids[item], **({} if title is None else {"title": title})}
