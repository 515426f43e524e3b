"""GRU4Rec: a recurrent network over the session (Hidasi et al., 2016; Hidasi and Karatzoglou, 2018)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from endcap.features.sessions import Sessions
from endcap.models import epochs
from endcap.models.base import FitReport, Fitting, Model, ModelState, score_non_empty
from endcap.models.bucketing import assign_buckets, check_item_codes, count_buckets, zero_unseen_buckets
from endcap.neural.gru import GRUNetwork, GRUShape
from endcap.neural.gru_states import GRUStates
from endcap.neural.gru_training import GRUSettings, GRUTrainer
from endcap.neural.parallel import Exchange
from endcap.neural.products import FEW, score_some
from endcap.neural.sequences import Sequences
from endcap.spec.neural import GRU4RecSpec


class GRU4Rec(Model):
    """A recurrent network over the session; see `GRUNetwork` for the weights and `GRUTrainer` for the training.

    It has no opinion on items that training does not have.

    Parameters
    ----------
    parameters
        The model's spec.
    exchange
        Adds gradients up if several workers fit one model (`endcap.neural.parallel`); None: there is one worker.
    """

    name = "gru4rec"
    specification = GRU4RecSpec
    needs_validation = True

    def __init__(self, parameters: GRU4RecSpec, exchange: Exchange | None = None) -> None:
        self.parameters, self.exchange = parameters, exchange
        self.n_items = 0
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.network = GRUNetwork.draw(GRUShape(0, parameters.width), np.zeros(0, dtype=np.bool_), {}, 0)
        self._states: GRUStates | None = None

    def fit(self, train: Sessions, n_items: int, fitting: Fitting) -> FitReport:
        """Learn; see `Model.fit`. On a CPU the same arguments give the same weights, also if the fit was killed and
        continued.

        Raises
        ------
        UserError
            A feature is missing.
        DivergedError
            The loss is no finite number.
        """
        spec, self.n_items, self._states = self.parameters, n_items, None
        fit = epochs.fit_fingerprint(spec.model_dump(mode="json"), train, n_items, fitting)
        saved = epochs.read_checkpoint(fitting, fit)
        self.network = (
            self._draw_network(train, fitting) if saved is None else GRUNetwork.from_arrays(saved.weights, self.device)
        )
        trainer = GRUTrainer(
            self.network, self._make_sequences(train), _make_settings(spec), fitting.seed, self.exchange
        )
        if saved is not None:
            trainer.restore(saved.state)
        learner = _GRULearner(self, trainer)
        progress = epochs.EpochProgress() if saved is None else saved.progress
        report = epochs.run_epochs(
            self, learner, progress, fitting, fit, max_epochs=spec.max_epochs, patience=spec.patience
        )
        self.network = GRUNetwork.from_arrays(progress.weights or learner.weights(), self.device)
        return report

    def _draw_network(self, train: Sessions, fitting: Fitting) -> GRUNetwork:
        spec = self.parameters
        # Its embeddings begin with that of unknown.
        codes = {name: check_item_codes(fitting, name) + 1 for name in spec.item_features}
        shape = GRUShape(
            self.n_items,
            spec.width,
            spec.output_embedding == "separate",
            count_buckets(train, spec.features),
            {name: int(values.max(initial=0)) + 1 for name, values in codes.items()},
        )
        known = np.bincount(train.items, minlength=self.n_items) > 0
        network = GRUNetwork.draw(shape, known, codes, fitting.seed)
        zero_unseen_buckets(network.weights, train, shape.event_codes)
        return network.to(self.device)

    def prepare(self) -> None:
        """Prepare the tables of `GRUStates`; a GPU needs none."""
        if self.device.type == "cpu":
            self._states = GRUStates(self.network)

    def score(self, sessions: Sessions) -> NDArray[np.float32]:
        non_empty = np.flatnonzero(sessions.lengths)
        if len(non_empty) == len(sessions) > 0:
            return self.network.scores(self._compute_last_states(sessions))
        scores = np.full((len(sessions), self.n_items), -np.inf, dtype=np.float32)
        if len(non_empty):
            scores[non_empty] = self.network.scores(self._compute_last_states(sessions.take(non_empty)))
        return scores

    def score_items(self, sessions: Sessions, items: Sequence[NDArray[np.int32]]) -> list[NDArray[np.float32]]:
        """See `Model.score_items`: it multiplies only with these items."""
        network = self.network
        return score_non_empty(
            sessions,
            items,
            lambda some, indices: score_some(self._compute_last_states(some), network.output, network.bias, indices),
        )

    def score_prefixes(self, sessions: Sessions) -> NDArray[np.float32]:
        """See `Model.score_prefixes`: one pass over each session; only prefixes beyond last_events are read again."""
        longest = self.parameters.last_events
        counts = np.maximum(sessions.lengths - 1, 0)
        number = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        ends = torch.from_numpy(np.repeat(sessions.offsets[:-1], counts) + number)
        after = self.network.hidden(self._make_sequences(sessions))[ends]
        long_prefixes = np.flatnonzero(number >= longest)
        if len(long_prefixes):
            prefixes, _, _ = sessions.take(counts > longest).prefixes()
            after[torch.from_numpy(long_prefixes)] = self._compute_last_states(
                prefixes.take(prefixes.lengths > longest)
            )
        return self.network.scores(after)

    def _compute_last_states(self, sessions: Sessions) -> torch.Tensor:
        """Return the hidden state after sessions that are not empty: [n, width]."""
        recent = self._make_sequences(sessions.last(self.parameters.last_events))
        if self._states is not None and len(recent) <= FEW:
            return torch.from_numpy(self._states.compute_last_states(recent))
        return self.network.hidden(recent)[torch.from_numpy(recent.offsets[1:] - 1)]

    def get_state(self) -> ModelState:
        return ModelState(self.network.arrays())

    def set_state(self, state: ModelState) -> None:
        self.network = GRUNetwork.from_arrays(state.arrays, self.device)

    def _make_sequences(self, sessions: Sessions) -> Sequences:
        return Sequences(sessions.items, sessions.offsets, assign_buckets(sessions, self.network.shape.event_codes))


class _GRULearner:
    """Makes the network that is being trained the model's, so that it can be validated."""

    def __init__(self, model: GRU4Rec, trainer: GRUTrainer) -> None:
        self.model, self.trainer, self.state = model, trainer, trainer.state

    def epoch(self, number: int) -> float:
        loss = self.trainer.epoch(number)
        self.model.network = self.trainer.network()
        return loss

    def weights(self) -> dict[str, NDArray[np.float32]]:
        return self.trainer.network().arrays()


def _make_settings(spec: GRU4RecSpec) -> GRUSettings:
    same = set(GRUSettings.__dataclass_fields__) & set(GRU4RecSpec.model_fields)
    values = {name: getattr(spec, name) for name in same}
    return GRUSettings(**values, batch=spec.batch_size, max_events=spec.last_events)
