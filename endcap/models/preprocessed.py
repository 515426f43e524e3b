"""A model behind preprocessing: all sessions that it learns from or scores pass through the same steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from endcap.features.sessions import Sessions
from endcap.models import files
from endcap.models.base import FitReport, Fitting, Model
from endcap.models.catalogue import list_allowed_classes, load
from endcap.models.validation import Validation
from endcap.preprocessing import Preprocessing, Training

NAME = "preprocessed"
MODEL, STEPS = "model", "preprocessing"


class Preprocessed(Model):
    """A model behind preprocessing: score(s) = inner.score(transform(s)).

    Training, evaluation and serving hold this object in place of the model, so that offline and online cannot differ.
    All else that a caller does with a session, such as leaving its items out, uses the session as it was.

    Parameters
    ----------
    preprocessing
        The steps.
    inner
        The model.
    """

    name = NAME

    def __init__(self, preprocessing: Preprocessing, inner: Model) -> None:
        self.preprocessing, self.inner = preprocessing, inner

    @property
    def n_items(self) -> int:  # type: ignore[override]
        """Size of the inner model's vocabulary."""
        return self.inner.n_items

    def fit(self, train: Sessions, n_items: int, fitting: Fitting) -> FitReport:
        """Fit the steps, then the model on the sessions that they return; sessions that they empty are left out."""
        training = Training(train, n_items, fitting.items, fitting.seed)
        transformed = self.preprocessing.fit(training, fitting.progress)
        validation = self._transform_validation(fitting.validation)
        return self.inner.fit(
            transformed.take(transformed.lengths > 0), n_items, replace(fitting, validation=validation)
        )

    def _transform_validation(self, validation: Validation | None) -> Validation | None:
        """Return the validation as the inner model reads it; targets and excluded items stay as they were."""
        if validation is None:
            return None
        return replace(
            validation, queries=self.preprocessing.transform(validation.queries), histories=validation.queries
        )

    def score(self, sessions: Sessions) -> NDArray[np.float32]:
        return self.inner.score(self.preprocessing.transform(sessions))

    def score_items(self, sessions: Sessions, items: Sequence[NDArray[np.int32]]) -> list[NDArray[np.float32]]:
        """See `Model.score_items`."""
        return self.inner.score_items(self.preprocessing.transform(sessions), items)

    def prepare(self) -> None:
        """See `Model.prepare`."""
        self.inner.prepare()

    def members(self) -> Mapping[str, Model]:
        """Return the inner model's members, each behind the same steps."""
        return {label: Preprocessed(self.preprocessing, member) for label, member in self.inner.members().items()}

    @property
    def known_customers(self) -> NDArray[np.int32]:
        """The customers that the inner model or the steps know."""
        return np.union1d(self.inner.known_customers, self.preprocessing.known_customers).astype(np.int32)

    def save(self, folder: Path) -> None:
        files.write(folder, {"name": NAME, "parameters": {}, "n_items": self.n_items}, {})
        for name, part in ((MODEL, self.inner), (STEPS, self.preprocessing)):
            (folder / name).mkdir()
            part.save(folder / name)

    @classmethod
    def load(cls, folder: Path) -> Self:
        return cls(Preprocessing.load(folder / STEPS, list_allowed_classes()), load(folder / MODEL))


def unwrap(model: Model) -> Model:
    """Return the model without its preprocessing."""
    return model.inner if isinstance(model, Preprocessed) else model
