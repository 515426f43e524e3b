"""NeuMF: neural collaborative filtering of customers and items (He et al., 2017)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array

from endcap.features.sessions import Sessions
from endcap.models import epochs
from endcap.models.base import FitReport, Fitting, Model, ModelState
from endcap.models.checkpoint import Arrays
from endcap.models.customer_items import build_binary_rows, find_sorted, number_owners
from endcap.models.validation import Validation, compute_ndcg
from endcap.neural.factors import Factors, FactorsShape
from endcap.neural.factors_training import FactorsTrainer, FactorsTraining, Pairs
from endcap.spec.neural import NeuMFSpec

TRACKED_CUTOFF = 10
"""Of the hit rate and next NDCG that are measured after each epoch, as in the paper."""


class NeuMF(Model):
    """Neural collaborative filtering; see `Factors` for the weights and `FactorsTrainer` for the training.

    While the model learns, every customer has an embedding, and so has each session of an unknown customer. Customers'
    embeddings are kept, and score for their customers whatever the session holds. For a customer who was not in
    training, each item of the session counts as the mean embedding of all users who had it, and the session as the mean
    of its items. So the model has no opinion if neither the customer nor an item of the session was in training, nor on
    items that training does not have.
    """

    name = "neumf"
    specification = NeuMFSpec
    needs_validation = True

    def __init__(self, parameters: NeuMFSpec) -> None:
        self.parameters = parameters
        self.shape = FactorsShape(parameters.variant, parameters.width, tuple(parameters.layers))
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._set_network(0, Factors.draw(self.shape, 0, 0, 0, self.device), np.zeros(0, np.int32), np.zeros(0))

    def _set_network(self, n_items: int, network: Factors, customers: NDArray[np.int32], events: NDArray[Any]) -> None:
        """Set the network, whose first users are `customers`. events: [n_items], 0 for items that training does not
        have.
        """
        self.n_items, self.network, self.customers, self.known_items = n_items, network, customers, events > 0
        self.typical = np.zeros((n_items, self.shape.embedding), dtype=np.float32)

    @property
    def known_customers(self) -> NDArray[np.int32]:
        return self.customers

    def fit(self, train: Sessions, n_items: int, fitting: Fitting) -> FitReport:
        """Learn; see `Model.fit`. On a CPU the same arguments give the same weights, also if the fit was killed and
        continued.

        The history has each epoch's loss, and with a validation part next_ndcg@20 (`validation`), hr@10 and
        next_ndcg@10.

        Raises
        ------
        DivergedError
            The loss is no finite number.
        """
        spec = self.parameters
        customers, owner = number_owners(train)
        owner_of_event = owner[train.session_of_event]
        users = int(owner.max(initial=-1)) + 1
        network = Factors.draw(self.shape, users, n_items, fitting.seed, self.device)
        self._set_network(n_items, network, customers, np.bincount(train.items, minlength=n_items))
        pairs = Pairs(owner_of_event, train.items.astype(np.int64), n_items)
        trainer = FactorsTrainer(network, pairs, self._make_settings(), fitting.seed)
        learner = _FactorsLearner(
            self, trainer, build_binary_rows(owner_of_event, train.items, users, n_items).T.tocsr()
        )
        fit = epochs.fit_fingerprint(spec.model_dump(mode="json"), train, n_items, fitting)
        kept = epochs.read_checkpoint(fitting, fit)
        if kept is not None:
            trainer.restore(kept.state)
        progress = epochs.EpochProgress() if kept is None else kept.progress
        limits = {"max_epochs": spec.max_epochs, "patience": spec.patience}
        report = epochs.run_epochs(self, learner, progress, fitting, fit, **limits, measure=_measure_validation)
        # Only now without the embeddings of sessions, which were for learning.
        self.network = Factors.from_arrays(self.shape, progress.weights or network.arrays(), self.device)
        self.typical = learner.typical()
        self.network.users = self.network.users[: len(customers)].clone()
        return report

    def _make_settings(self) -> FactorsTraining:
        spec = self.parameters
        return FactorsTraining(spec.batch_size, spec.negatives, spec.learning_rate, spec.weight_decay, spec.dropout)

    def score(self, sessions: Sessions) -> NDArray[np.float32]:
        users, has_user = self._compute_users(sessions)
        scores = self.network.scores(users)
        scores[:, ~self.known_items] = -np.inf
        scores[~has_user] = -np.inf
        return scores

    def score_items(self, sessions: Sessions, items: Sequence[NDArray[np.int32]]) -> list[NDArray[np.float32]]:
        """See `Model.score_items`."""
        users, has_user = self._compute_users(sessions)
        scores = self.network.score_some(users, items)
        for values, indices, opinion in zip(scores, items, has_user, strict=True):
            values[~(self.known_items[indices] & opinion)] = -np.inf
        return scores

    def _compute_users(self, sessions: Sessions) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return each session's user embedding, float32 [n, e], and whether there is one: bool [n]."""
        rows = build_binary_rows(sessions.session_of_event, sessions.items, len(sessions), self.n_items)
        count = rows @ self.known_items.astype(np.float32)
        users = (rows @ self.typical) / np.maximum(count, 1)[:, None]
        known, place = find_sorted(self.customers, sessions.customers)
        if known.any():
            users[known] = self.network.users[torch.from_numpy(place[known]).to(self.device)].cpu().numpy()
        return users, known | (count > 0)

    def get_state(self) -> ModelState:
        own: Arrays = {"customers": self.customers, "seen": self.known_items.astype(np.uint8), "typical": self.typical}
        return ModelState({**self.network.arrays(), **own})

    def set_state(self, state: ModelState) -> None:
        arrays = state.arrays
        network = Factors.from_arrays(self.shape, arrays, self.device)
        self._set_network(self.n_items, network, arrays["customers"], arrays["seen"])
        self.typical = arrays["typical"]


class _FactorsLearner:
    """A trainer as `epochs.run_epochs` runs it. customer_rows: ones [n_items, users], which user had which item."""

    def __init__(self, model: NeuMF, trainer: FactorsTrainer, customer_rows: csr_array) -> None:
        self.model, self.trainer, self.customer_rows = model, trainer, customer_rows

    def epoch(self, number: int) -> float:
        loss = self.trainer.epoch(number)
        self.model.typical = self.typical()
        return loss

    def weights(self) -> Arrays:
        return self.trainer.network.arrays()

    def state(self) -> Arrays:
        return self.trainer.arrays()

    def typical(self) -> NDArray[np.float32]:
        """Return the mean embedding of the users who had an item: float32 [n_items, e], 0 if none had it."""
        total = self.customer_rows @ self.model.network.users.cpu().numpy()
        return np.asarray(total / np.maximum(np.diff(self.customer_rows.indptr), 1)[:, None], dtype=np.float32)


def _measure_validation(model: Model, validation: Validation) -> dict[str, float]:
    """Return the measures that are tracked on the validation part, among all items."""
    ranks = validation.ranks(model)
    weights = validation.weights
    listed = weights[(ranks > 0) & (ranks <= TRACKED_CUTOFF)].sum()
    return {
        "validation": compute_ndcg(ranks, weights),
        f"hr@{TRACKED_CUTOFF}": float(listed) / max(float(weights.sum()), 1.0),
        f"next_ndcg@{TRACKED_CUTOFF}": compute_ndcg(ranks, weights, TRACKED_CUTOFF),
    }
