"""SASRec: self-attention over the session (Kang and McAuley, 2018; gSASRec: Petrov and Macdonald, 2023)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from endcap.errors import UserError
from endcap.features.sessions import Sessions
from endcap.models import epochs
from endcap.models.base import FitReport, Fitting, Model, ModelState, score_non_empty
from endcap.models.bucketing import assign_buckets, check_item_codes, count_buckets, zero_unseen_buckets
from endcap.neural.attention import AttentionNetwork, AttentionShape
from endcap.neural.attention_training import AttentionTrainer, AttentionTraining
from endcap.neural.products import score_some
from endcap.neural.sequences import Ints, Sequences
from endcap.spec.neural import SASRecSpec

_CODES = "codes."


class SASRec(Model):
    """Self-attention over the session; see `AttentionNetwork` for the weights and `AttentionTrainer` for the training.

    It has no opinion on items that training does not have.
    """

    name = "sasrec"
    specification = SASRecSpec
    needs_validation = True

    def __init__(self, parameters: SASRecSpec) -> None:
        if parameters.width % parameters.heads:
            raise UserError(
                f"model.heads is {parameters.heads}, which does not divide model.width, {parameters.width}; "
                "choose heads that do, such as 1 or 2",
                code="models.heads-unfit",
                found=parameters.heads,
                width=parameters.width,
            )
        self.parameters = parameters
        self.n_items = 0
        self.network = AttentionNetwork.draw(
            self._make_shape({}, {}), np.zeros(0, dtype=np.int64), {}, 0, _choose_device()
        )

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
        spec, self.n_items = self.parameters, n_items
        codes = {name: check_item_codes(fitting, name) for name in spec.item_features}
        sizes = {name: int(values.max(initial=-1)) + 1 for name, values in codes.items()}
        shape = self._make_shape(count_buckets(train, spec.features), sizes)
        fit = epochs.fit_fingerprint(spec.model_dump(mode="json"), train, n_items, fitting)
        saved = epochs.read_checkpoint(fitting, fit)
        if saved is None:
            counts = np.bincount(train.items, minlength=n_items)
            self.network = AttentionNetwork.draw(shape, counts, codes, fitting.seed, _choose_device())
            zero_unseen_buckets(self.network.weights, train, shape.features)
        else:
            self.network = AttentionNetwork.from_arrays(shape, saved.weights, codes, _choose_device())
        trainer = AttentionTrainer(self.network, self._make_sequences(train), _make_settings(spec), fitting.seed)
        if saved is not None:
            trainer.adam.restore(saved.state)
        progress = epochs.EpochProgress() if saved is None else saved.progress
        report = epochs.run_epochs(
            self, _AttentionLearner(trainer), progress, fitting, fit, max_epochs=spec.max_epochs, patience=spec.patience
        )
        self.network = AttentionNetwork.from_arrays(
            shape, progress.weights or self.network.arrays(), codes, _choose_device()
        )
        return report

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
        table, bias = self.network.items, self.network.bias
        return score_non_empty(
            sessions, items, lambda some, indices: score_some(self._compute_last_states(some), table, bias, indices)
        )

    def score_prefixes(self, sessions: Sessions) -> NDArray[np.float32]:
        """See `Model.score_prefixes`: one pass over each session; only prefixes beyond last_events are read again."""
        longest = self.parameters.last_events
        counts = np.maximum(sessions.lengths - 1, 0)
        states = self.network.compute_states(
            self._make_sequences(_take_first_events(sessions, np.minimum(counts, longest)))
        )
        beyond = np.flatnonzero(counts > longest)
        if not len(beyond):
            return self.network.scores(states)
        ends = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + 1
        prefixes, _, _ = sessions.take(beyond).prefixes()
        all_states = states.new_empty(len(ends), states.shape[1])
        all_states[torch.from_numpy(ends <= longest)] = states
        all_states[torch.from_numpy(ends > longest)] = self._compute_last_states(
            prefixes.take(prefixes.lengths > longest)
        )
        return self.network.scores(all_states)

    def _compute_last_states(self, sessions: Sessions) -> Tensor:
        """Return the network's state after sessions that are not empty: [n, width]."""
        return self.network.compute_last_states(self._make_sequences(sessions.last(self.parameters.last_events)))

    def get_state(self) -> ModelState:
        shape = self.network.shape
        codes = {f"{_CODES}{name}": values.cpu().numpy() for name, values in self.network.codes.items()}
        sizes = {"features": dict(shape.features), "item_features": dict(shape.item_features)}
        return ModelState(self.network.arrays() | codes, sizes)

    def set_state(self, state: ModelState) -> None:
        shape, arrays = (
            self._make_shape(state.settings["features"], state.settings["item_features"]),
            dict(state.arrays),
        )
        codes = {name: arrays.pop(f"{_CODES}{name}") for name in shape.item_features}
        self.network = AttentionNetwork.from_arrays(shape, arrays, codes, _choose_device())

    def _make_shape(self, features: dict[str, int], item_features: dict[str, int]) -> AttentionShape:
        spec = self.parameters
        return AttentionShape(
            self.n_items, spec.width, spec.blocks, spec.heads, spec.last_events, features, item_features
        )

    def _make_sequences(self, sessions: Sessions) -> Sequences:
        return Sequences(sessions.items, sessions.offsets, assign_buckets(sessions, self.network.shape.features))


class _AttentionLearner:
    def __init__(self, trainer: AttentionTrainer) -> None:
        self.epoch = trainer.epoch
        self.weights = trainer.network.arrays
        self.state = trainer.adam.arrays


def _take_first_events(sessions: Sessions, lengths: Ints) -> Sessions:
    """Return each session's first events, `lengths` of them."""
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    events = np.arange(offsets[-1]) + np.repeat(sessions.offsets[:-1] - offsets[:-1], lengths)
    features = {name: values[events] for name, values in sessions.features.items()}
    return Sessions(sessions.items[events], sessions.times[events], offsets, sessions.customers, features)


def _make_settings(spec: SASRecSpec) -> AttentionTraining:
    return AttentionTraining(
        batch=spec.batch_size,
        negatives=spec.negatives,
        negatives_alpha=spec.negatives_alpha,
        loss=spec.loss,
        calibration=spec.calibration,
        learning_rate=spec.learning_rate,
        dropout=spec.dropout,
    )


def _choose_device() -> torch.device:
    """Return a GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
