"""A model behind preprocessing: all that it is fitted on and asked about passes through the same steps."""

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
    """score(s) = inner.score(transform(s)).

    Whoever fits, judges or serves a model holds this one in its place, so that offline and online cannot differ. What
    the caller does with a session beside asking for scores, such as leaving its items out, is of the session as it was.
    """

    name = NAME

    def __init__(self, preprocessing: Preprocessing, inner: Model) -> None:
        self.preprocessing, self.inner = preprocessing, inner

    @property
    def n_items(self) -> int:  # type: ignore[override]
        """Size of the vocabulary, which is the inner model's."""
        return self.inner.n_items

    def fit(self, train: Sessions, n_items: int, fitting: Fitting) -> FitReport:
        """Fit the steps, then the model on what they leave; sessions left empty teach it nothing and are taken out."""
        training = Training(train, n_items, fitting.items, fitting.seed)
        left = self.preprocessing.fit(training, fitting.progress)
        validation = self._transform_validation(fitting.validation)
        return self.inner.fit(left.take(left.lengths > 0), n_items, replace(fitting, validation=validation))

    def _transform_validation(self, validation: Validation | None) -> Validation | None:
        """Validation as the inner model sees it: what came next, and what is excluded, stays as it was."""
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
        """Those of the inner model, each behind the same steps."""
        return {label: Preprocessed(self.preprocessing, member) for label, member in self.inner.members().items()}

    @property
    def known_customers(self) -> NDArray[np.int32]:
        """Those of the inner model and of the steps."""
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
    """The model without its preprocessing."""
    return model.inner if isinstance(model, Preprocessed) else model
