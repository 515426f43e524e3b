"""A few test sessions for people to read: what was looked at, what came next, and what two models recommended."""

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
"""Which of the models find the target, by the number of models."""
DRAWN = 400
"""Sessions that are searched for samples: enough to find each kind, and little beside the evaluation."""
OF_A_KIND = 3
LISTED = 10
EVENTS = 8
"""A sample shows this many of a session's latest events."""
ALSO = 9
"""A sample shows this many other items of the target's moment."""
TITLES = ("title", "name")


class SampleSessions:
    """Sessions drawn by the seed, each asked about its last moment, and what the models recommend before that.

    If several items came at that moment, the target is the one with the smallest index, which is the most popular.
    """

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

    def rank_with(self, name: str, competitor: EvaluatedModel) -> None:
        """Have a model rank after each drawn session without its last moment."""
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
        """Return some sessions of each kind. The first model is compared with the second, if there are two.

        Returns
        -------
        dict
            `sessions` have `kind` (`both`, `challenger`, `other`, `neither`; `found`, `missed` for one model); `shown`,
            the latest events, and `earlier`, how many came before them; `next`, and `also`, the other items of its
            moment; and by model `lists` and `ranks` (0: not listed). An item has `item`, its id (null for one that the
            test's vocabulary lacks), and `title` if the item table knows one.
        """
        places = [place for kind in _KINDS[len(models) - 1].values() for place in self._of(kind, models)]
        sessions = [self._session(place, models) for place in places]
        return {"models": list(models), "cutoff": LISTED, "sessions": sessions}

    def _of(self, kind: tuple[bool, ...], models: Sequence[str]) -> list[int]:
        """Return the first sessions, in the order of drawing, whose target these models find (True) or miss."""
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
