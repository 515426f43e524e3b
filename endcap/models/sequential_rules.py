"""Sequential rules: what followed the session's last item, and how soon (Ludewig and Jannach, 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array

from endcap.features.sessions import Sessions
from endcap.models import files
from endcap.models.base import FitReport, Fitting, Model
from endcap.spec.model import SequentialRulesSpec


class SequentialRules(Model):
    """The rule a -> b weighs the sum of 1/gap over all places where b stands `gap` <= `steps` events after a.

    Rules in compressed rows: those of item a are starts[a]:starts[a+1] of `followers` and `weights`.
    """

    name = "sequential-rules"

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
        self.weights = rules.data.astype(np.float32)
        return FitReport()

    def score(self, sessions: Sessions) -> NDArray[np.float32]:
        scores = np.full((len(sessions), self.n_items), -np.inf, dtype=np.float32)
        asked = np.flatnonzero(sessions.lengths)
        last = sessions.items[sessions.offsets[1:][asked] - 1]
        counts = self.starts[last + 1] - self.starts[last]
        rules = np.arange(counts.sum()) + np.repeat(self.starts[last] - np.cumsum(counts) + counts, counts)
        scores[np.repeat(asked, counts), self.followers[rules]] = self.weights[rules]
        return scores

    def score_items(self, sessions: Sessions, items: Sequence[NDArray[np.int32]]) -> list[NDArray[np.float32]]:
        """See `Model.score_items`: the followers are ascending, so each asked item is looked up among them."""
        scores = [np.full(len(asked), -np.inf, dtype=np.float32) for asked in items]
        for row in np.flatnonzero(sessions.lengths).tolist():
            last = sessions.items[sessions.offsets[row + 1] - 1]
            followers = self.followers[self.starts[last] : self.starts[last + 1]]
            if len(followers):
                place = np.minimum(np.searchsorted(followers, items[row]), len(followers) - 1)
                there = followers[place] == items[row]
                scores[row][there] = self.weights[self.starts[last] + place[there]]
        return scores

    def save(self, folder: Path) -> None:
        description = {
            "name": self.name,
            "parameters": self.parameters.model_dump(mode="json"),
            "n_items": self.n_items,
        }
        arrays: dict[str, NDArray[Any]] = {"starts": self.starts, "followers": self.followers, "weights": self.weights}
        files.write(folder, description, arrays)

    @classmethod
    def load(cls, folder: Path) -> Self:
        description, arrays = files.describe(folder), files.tensors(folder)
        model = cls(SequentialRulesSpec.model_validate(description["parameters"]))
        model.n_items = description["n_items"]
        model.starts, model.followers, model.weights = arrays["starts"], arrays["followers"], arrays["weights"]
        return model
