"""The contract that every preprocessor keeps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from endcap.features.sessions import Sessions


@dataclass(frozen=True)
class Training:
    """What a preprocessor learns from.

    Parameters
    ----------
    sessions
        The sessions that the model is fitted on, as the steps before left them. No validation or test session.
    n_items
        Size of the vocabulary.
    items
        The items in the order of the vocabulary: `item` (their ids) and the shop's attributes. None where a model is
        fitted without an item table.
    seed
        The fit's seed: the only source of randomness.
    """

    sessions: Sessions
    n_items: int
    items: pa.Table | None = None
    seed: int = 0


class Preprocessor(ABC):
    """A step between the sessions of a log or a request and the model.

    A class of its own `Parameters`, derived from `endcap.spec.base.Strict`, holds what a spec may set.

    `transform` may, for each session by itself:

    - drop events, all of them too (`endcap.preprocessing.where`); a model has no opinion on an empty session, and the
      most popular items are its answer;
    - merge events into fewer;
    - replace an event's item by another of the vocabulary, such as a variant by its product;
    - change the values of event features, and add features under new names, float32 [events]. Endcap's own models read
      the features that the shop declares, and a model of your own may read any.

    It may not:

    - change the number of sessions, their order or their customers;
    - let a session depend on others of the batch: a request is a batch of one;
    - use items outside of the vocabulary, or add to it;
    - write into the arrays that it is given;
    - draw random numbers.

    The event to predict is never transformed: evaluation predicts the next event of the session as it was, from the
    transformed events before it. What `exclude` leaves out are the session's items as they were.

    Features such as `position` and `gap` keep the values that they had in the session as it came.
    """

    parameters: Any

    @abstractmethod
    def __init__(self, parameters: Any) -> None:
        """`parameters`: an object of the class's own `Parameters`."""

    def fit(self, training: Training) -> None:  # noqa: B027 - a step that has nothing to learn leaves it out
        """Learn from the training part. The same training gives the same step; another fit forgets the one before."""

    @abstractmethod
    def transform(self, sessions: Sessions) -> Sessions:
        """The sessions as the model sees them: as many, in the same order.

        Every training session comes in one call, a request alone in another, in about 0.1 ms.
        """

    def save(self, folder: Path) -> None:  # noqa: B027 - a step without state leaves it out
        """Write what `fit` learnt into an existing folder: safetensors (.safetensors) and JSON (.json) alone."""

    @classmethod
    def load(cls, folder: Path, parameters: Any) -> Self:
        """The step that `save` wrote, with its parameters. Runs no code from the folder."""
        return cls(parameters)

    @property
    def known_customers(self) -> NDArray[np.int32]:
        """Customers that the step knows something of, by their index in the dataset, ascending: int32 [c].

        Default: none. `transform` is given -1 for all others.
        """
        return np.zeros(0, dtype=np.int32)
