"""The contract that every model keeps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from endcap.features.sessions import Sessions
from endcap.features.stream import SessionStream
from endcap.models import files
from endcap.models.ranking import NO_ITEM as NO_ITEM
from endcap.models.ranking import RankedItems, mask_excluded, top
from endcap.models.renaming import rename_fields
from endcap.models.validation import Validation
from endcap.spec.recommender import Exclude


@rename_fields(found="settings")
@dataclass(frozen=True)
class Fitting:
    """How a model is fitted, beside its data and its own parameters."""

    seed: int = 0
    settings: Mapping[str, Any] | None = None
    """What an earlier fit chose on validation (`FitReport.settings`): taken as it is, nothing is validated again."""
    validation: Validation | None = None
    """What to choose the number of epochs, or weights, by; None: as `settings` says, or to the model's own limit."""
    workspace: Path | None = None
    """Where checkpoints of an unfinished fit are kept; a fit with the same arguments goes on from there."""
    keeps: bool = True
    """False: it goes on from a checkpoint there, but writes none. Of workers that share a fit, one writes them."""
    progress: Callable[[str], None] = lambda line: None
    """Takes a line now and then while a long fit runs."""
    observe: Callable[[Mapping[str, float]], bool] = lambda row: True
    """Takes each epoch's row of the history; False ends the fit after it."""
    item_features: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
    """Codes of the item attributes that the model's spec names: int64 [n_items], -1 where an item has none."""
    items: pa.Table | None = None
    """The items in the order of the vocabulary: `item` (their ids) and the shop's attributes; None: not at hand."""


@rename_fields(found="settings")
@dataclass(frozen=True)
class FitReport:
    """What comes of a fit, beside the fitted model.

    Attributes
    ----------
    settings
        JSON, by name: what the fit chose on validation, for a refit to keep, such as the number of epochs.
    history
        A row for each epoch: epoch, loss, validation, seconds.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    history: list[Mapping[str, float]] = field(default_factory=list)


@dataclass(frozen=True)
class ModelState:
    """What a fitted model's files hold beside its parameters and `n_items`.

    Attributes
    ----------
    arrays
        By name: all that was learnt.
    settings
        JSON, by name: what the arrays do not say. Not `name`, `class`, `parameters` or `n_items`.
    """

    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)


class Model(ABC):
    """A recommender over item indices 0 … n_items-1, which are in vocabulary order: most popular first.

    Of two items with equal scores the smaller index comes first, in `recommend` and in evaluation alike.
    """

    name: ClassVar[str]
    specification: ClassVar[Any] = None
    """Of Endcap's own models: the class of the spec that says the parameters. A class outside has `Parameters`."""
    Parameters: ClassVar[Any]
    needs_validation: ClassVar[bool] = False
    """True for a model that finds something, such as its number of epochs, on validation sessions."""
    streams: ClassVar[bool] = False
    """True for a model that is fitted by `fit_stream`, on a log that need not fit into memory."""

    n_items: int

    @abstractmethod
    def __init__(self, parameters: Any) -> None:
        """Make a model that is not fitted yet.

        Parameters
        ----------
        parameters
            The parameters, of the class `Parameters`; for Endcap's own models their class in `endcap.spec.model`.
        """

    @abstractmethod
    def fit(self, train: Sessions, n_items: int, fitting: Fitting) -> FitReport:
        """Learn from sessions. Two fits with the same arguments give the same model.

        Parameters
        ----------
        train
            Sessions to learn from.
        n_items
            Items of the vocabulary.
        fitting
            How the fit is done.

        Returns
        -------
        FitReport
            What the fit chose, and its history.
        """

    def fit_stream(self, train: SessionStream, n_items: int, fitting: Fitting) -> FitReport:
        """Learn from sessions that are read in batches. Steps call it in place of `fit` if `streams` is True.

        `train.epoch(3)` is the fourth pass, shuffled in another order; the same seed gives the same batches.

        Parameters
        ----------
        train
            Sessions to learn from.
        n_items
            Items of the vocabulary.
        fitting
            How the fit is done.
        """
        raise NotImplementedError(f"{type(self).__name__} sets `streams` and has no `fit_stream`")

    @abstractmethod
    def score(self, sessions: Sessions) -> NDArray[np.float32]:
        """Return the scores of every item after each session.

        Parameters
        ----------
        sessions
            n sessions. They may be empty (no events): a session model has no opinion on any item then.

        Returns
        -------
        numpy.ndarray
            float32 [n, n_items]; -inf where the model has no opinion.
        """

    def score_items(self, sessions: Sessions, items: Sequence[NDArray[np.int32]]) -> list[NDArray[np.float32]]:
        """Return the scores of some items after each session.

        They equal those of `score`, except for rounding. A model that can score a few items faster than all overrides
        it.

        Parameters
        ----------
        sessions
            n sessions.
        items
            n arrays of item indices.

        Returns
        -------
        list of numpy.ndarray
            For session i float32 [len(items[i])], in that order.
        """
        scores = self.score(sessions)
        return [scores[row, indices] for row, indices in enumerate(items)]

    def prepare(self) -> None:
        """Prepare for quick answers, at the cost of memory. A server calls it once, before the first answer."""
        for member in self.members().values():
            member.prepare()

    def score_prefixes(self, sessions: Sessions) -> NDArray[np.float32]:
        """Return the scores after every proper prefix of each session: float32 [p, n_items], in the order of
        `Sessions.prefixes`.

        They equal the scores of `score` after those prefixes, except for rounding. A model that reads a session event
        by event overrides it with one pass over the sessions. Callers pass no more prefixes than fit into memory.
        """
        return self.score(sessions.prefixes()[0])

    def members(self) -> Mapping[str, Model]:
        """Return the fitted models that this model consists of, by label; reports show them beside it."""
        return {}

    def get_state(self) -> ModelState:
        """Return what `save` writes beside the parameters and `n_items`. `set_state` takes it."""
        raise NotImplementedError(f"{type(self).__name__} has no `get_state`, and no `save` of its own")

    def set_state(self, state: ModelState) -> None:
        """Take what `get_state` returned, in a new model of the same parameters whose `n_items` is set."""
        raise NotImplementedError(f"{type(self).__name__} has no `set_state`, and no `load` of its own")

    def save(self, folder: Path) -> None:
        """Write the fitted model's files into an existing folder: safetensors and JSON, never pickle."""
        state = self.get_state()
        files.write(folder, {**state.settings, **files.description(self)}, state.arrays)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Return the model that `save` wrote. Runs no code from the folder.

        Raises
        ------
        IntegrityError
            The files are missing or damaged.
        """
        description = files.describe(folder)
        model = cls(cls.read_parameters(description["parameters"]))
        model.n_items = description["n_items"]
        settings = {name: value for name, value in description.items() if name not in files.DESCRIBED}
        model.set_state(ModelState(files.tensors(folder), settings))
        return model

    @classmethod
    def read_parameters(cls, document: Mapping[str, Any]) -> Any:
        """Return the parameters that `save` wrote, as the constructor takes them."""
        # A class of one's own may derive from one of Endcap's models, and has that one's specification too.
        kind = vars(cls).get("specification") or cls.Parameters
        return kind.model_validate(document)

    @property
    def known_customers(self) -> NDArray[np.int32]:
        """The customers that the model knows, by their index in the dataset, ascending: int32 [c].

        It is empty for a model that ignores the session's customer. To the model all other customers are as unknown as
        customer -1.
        """
        known = [member.known_customers for member in self.members().values()]
        return np.unique(np.concatenate([np.zeros(0, dtype=np.int32), *known]))

    def recommend(
        self,
        sessions: Sessions,
        k: int,
        *,
        exclude: Exclude = "none",
        candidates: NDArray[np.int32] | None = None,
        forbidden: NDArray[np.bool_] | None = None,
    ) -> RankedItems:
        """Return the k best items after each session.

        Parameters
        ----------
        sessions
            n sessions.
        k
            Items of a ranking.
        exclude
            Which of the session's own items are left out.
        candidates
            int32 [c], the only items that are ranked; None: all.
        forbidden
            bool [n, n_items], further items that are left out; None: none.

        Returns
        -------
        RankedItems
            Items without a score are not recommended.
        """
        scores = self.score(sessions)
        mask_excluded(scores, sessions, exclude)
        if forbidden is not None:
            scores[forbidden] = -np.inf
        if candidates is not None:
            kept = np.full_like(scores, -np.inf)
            kept[:, candidates] = scores[:, candidates]
            scores = kept
        return top(scores, k)


def score_non_empty(
    sessions: Sessions,
    items: Sequence[NDArray[np.int32]],
    score: Callable[[Sessions, Sequence[NDArray[np.int32]]], list[NDArray[np.float32]]],
) -> list[NDArray[np.float32]]:
    """Return `Model.score_items` of a model that has no opinion after an empty session.

    Parameters
    ----------
    sessions
        n sessions.
    items
        n arrays of item indices.
    score
        Returns the scores of items after sessions that are not empty.
    """
    rows = np.flatnonzero(sessions.lengths)
    if len(rows) == len(sessions):
        return score(sessions, items)
    scores = [np.full(len(indices), -np.inf, dtype=np.float32) for indices in items]
    if len(rows):
        listed = [items[row] for row in rows.tolist()]
        for row, values in zip(rows.tolist(), score(sessions.take(rows), listed), strict=True):
            scores[row] = values
    return scores
