"""A first-order Markov chain: what came right after the session's last item, and how often."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.sparse import coo_array, csr_array

from endcap.features.sessions import Sessions
from endcap.models import FitReport, Fitting, Model, ModelState
from endcap.spec.base import Strict
from endcap.spec.space import Space, between


class Markov(Model):
    """P(next = b | last = a) = (1 - s) n(a, b) / n(a) + s p(b): s is the smoothing, p(b) the item's share of events."""

    name = "markov"

    class Parameters(Strict):
        smoothing: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.05
        """The share of the items' own popularity: how an item ranks that never came after the last one."""

        space: ClassVar[Space] = {"smoothing": between(0.001, 0.5, log=True)}
        starts: ClassVar[list[dict[str, Any]]] = [{"smoothing": 0.01}]

    def __init__(self, parameters: Parameters) -> None:
        self.parameters = parameters
        self.n_items = 0

    def fit(self, train: Sessions, n_items: int, fitting: Fitting) -> FitReport:
        owner = train.session_of_event
        before = np.flatnonzero(owner[:-1] == owner[1:])
        pairs = (train.items[before], train.items[before + 1])
        counts = coo_array((np.ones(len(before)), pairs), shape=(n_items, n_items)).tocsr()
        followed = np.asarray(counts.sum(axis=1))
        counts.data /= np.repeat(followed, np.diff(counts.indptr))
        events = np.bincount(train.items, minlength=n_items)
        self._take(n_items, counts, events / max(1, events.sum()))
        return FitReport()

    def score(self, sessions: Sessions) -> NDArray[np.float32]:
        scores = np.full((len(sessions), self.n_items), -np.inf, dtype=np.float32)
        rows = np.flatnonzero(sessions.lengths)  # an empty session has no last item: no opinion
        smoothing = self.parameters.smoothing
        scores[rows] = (1 - smoothing) * self.chain[sessions.last(1).items].toarray() + smoothing * self.popularity
        return scores

    def get_state(self) -> ModelState:
        chain = {"data": self.chain.data, "indices": self.chain.indices, "indptr": self.chain.indptr}
        return ModelState({**chain, "popularity": self.popularity})

    def set_state(self, state: ModelState) -> None:
        parts = tuple(state.arrays[name] for name in ("data", "indices", "indptr"))
        chain = csr_array(parts, shape=(self.n_items, self.n_items))
        self._take(self.n_items, chain, state.arrays["popularity"])

    def _take(self, n_items: int, chain: Any, popularity: NDArray[Any]) -> None:
        self.n_items = n_items
        self.chain = chain.astype(np.float32)
        self.popularity = popularity.astype(np.float32)
