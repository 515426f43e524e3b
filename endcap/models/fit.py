"""Fits a spec's model on a view: first on the part before the validation, then on all that it may see."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from endcap.errors import UserError
from endcap.features.dataset_files import build_item_table, read_refit_sessions
from endcap.features.item_attributes import encode_item_features, select_attributes
from endcap.features.sessions import Sessions
from endcap.features.stream import SessionStream, stream_sessions
from endcap.features.streamed_view import open_streamed_view
from endcap.features.view import View, open_view
from endcap.features.vocabulary import Vocabulary
from endcap.models.base import FitReport, Fitting, Model
from endcap.models.catalogue import make
from endcap.models.device import find_device
from endcap.models.validation import Validation
from endcap.spec.model import ModelSpec
from endcap.spec.preprocessing import PreprocessorSpec
from endcap.spec.recommender import Exclude
from endcap.spec.settings import ViewSettings

MAX_VALIDATION_PREFIXES = 20_000
"""Sessions are drawn until they have about so many: enough for a steady NDCG, and an epoch does not wait for it."""
MAX_VALIDATION_SCORES = 2_000_000_000
"""With very many items fewer: so many scores at most."""
Progress = Callable[[str], None]


@dataclass(frozen=True)
class FittedModel:
    """A fitted model.

    Attributes
    ----------
    model
        The model.
    report
        What its fit chose, and its history.
    device
        Where it was fitted, see `find_device`; None: not known, because workers of an earlier release fitted it.
    """

    model: Model
    report: FitReport
    device: str | None


def fit_watched(
    spec: ModelSpec,
    view: View,
    exclude: Exclude,
    *,
    seed: int,
    workspace: Path | None = None,
    progress: Progress = lambda line: None,
    observe: Callable[[Mapping[str, float]], bool] = lambda row: True,
    preprocessing: Sequence[PreprocessorSpec] = (),
) -> FittedModel:
    """Fit on `view.train`, watched by `view.validation` if there is one; the model learns nothing of the validation.

    Parameters
    ----------
    spec
        The model.
    view
        The recommender's view of its dataset.
    exclude
        Which of a session's own items a ranking leaves out.
    seed
        Seed of the fit.
    workspace
        Folder for checkpoints; None: none are kept.
    progress
        Takes lines for people.
    observe
        Takes each epoch's row; False ends the fit after it.
    preprocessing
        Steps that sessions pass through before the model.
    """
    model = make(spec, preprocessing)
    fitting = Fitting(
        seed=seed,
        validation=draw_validation(view, exclude, seed),
        workspace=_make_folder(workspace),
        progress=progress,
        observe=observe,
        item_features=encode_item_features(view.items, spec),
        items=select_attributes(view.items),
    )
    report = _fit(model, get_part(view, "train"), len(view.vocabulary), fitting)
    return FittedModel(model, report, find_device(model))


def fit_with_settings(
    spec: ModelSpec,
    sessions: Sessions | SessionStream,
    n_items: int,
    settings: Mapping[str, Any],
    *,
    items: pa.Table | None = None,
    seed: int,
    workspace: Path | None = None,
    progress: Progress = lambda line: None,
    observe: Callable[[Mapping[str, float]], bool] = lambda row: True,
    preprocessing: Sequence[PreprocessorSpec] = (),
) -> Model:
    """Fit on sessions with the settings that an earlier fit chose.

    Parameters
    ----------
    spec
        The model.
    sessions
        Sessions to learn from.
    n_items
        Items of the vocabulary.
    settings
        `FitReport.settings` of the earlier fit.
    items
        The table of items, whose attributes the model may name; None: there is none.
    seed
        Seed of the fit.
    workspace
        Folder for checkpoints; None: none are kept.
    progress
        Takes lines for people.
    observe
        Takes each epoch's row; False ends the fit after it.
    preprocessing
        Steps that sessions pass through before the model.
    """
    model = make(spec, preprocessing)
    fitting = Fitting(
        seed=seed,
        settings=settings,
        workspace=_make_folder(workspace),
        progress=progress,
        observe=observe,
        item_features=encode_item_features(items, spec),
        items=None if items is None else select_attributes(items),
    )
    _fit(model, sessions, n_items, fitting)
    return model


def open_model_view(dataset: Path, settings: ViewSettings) -> View:
    """Open the recommender's view. If its model streams, the training sessions are not in memory.

    Parameters
    ----------
    dataset
        Folder of the dataset.
    settings
        The recommender's settings.

    Raises
    ------
    UserError
        A model that streams has preprocessing. Also what `open_view` raises.
    """
    return open_streamed_view(dataset, settings) if _is_streamed(settings) else open_view(dataset, settings)


def get_part(view: View, part: Literal["train", "training"]) -> Sessions | SessionStream:
    """Return the sessions of a part that a model learns from.

    Parameters
    ----------
    view
        The recommender's view.
    part
        `train`: the sessions before the validation. `training`: the whole training part.
    """
    if view.streams is not None:
        return view.streams[part]
    return view.train if part == "train" else view.training


@dataclass(frozen=True)
class FullData:
    """All data that a winner is fitted on, with a vocabulary of its own.

    Attributes
    ----------
    sessions
        All sessions; a stream if the model streams.
    vocabulary
        Their items.
    items
        The table of items, in the vocabulary's order.
    last
        Time of the last event, epoch ms.
    """

    sessions: Sessions | SessionStream
    vocabulary: Vocabulary
    items: pa.Table
    last: int

    @classmethod
    def of(cls, dataset: Path, settings: ViewSettings) -> FullData:
        """Read all data of a dataset.

        Parameters
        ----------
        dataset
            Folder of the dataset.
        settings
            The recommender's settings.
        """
        if _is_streamed(settings):
            stream = stream_sessions(dataset, settings, "everything", seed=settings.seed)
            return cls(stream, stream.vocabulary, stream.items, stream.last)
        vocabulary, sessions = read_refit_sessions(dataset, settings)
        return cls(sessions, vocabulary, build_item_table(dataset, vocabulary, sessions), get_last_time(sessions))

    @property
    def count(self) -> int:
        """Number of sessions."""
        return self.sessions.sessions if isinstance(self.sessions, SessionStream) else len(self.sessions)


def get_last_time(sessions: Sessions | SessionStream) -> int:
    """Return the time of the last event, epoch ms."""
    return sessions.last if isinstance(sessions, SessionStream) else int(sessions.times.max())


def _is_streamed(settings: ViewSettings) -> bool:
    streamed = make(settings.model).streams
    if streamed and settings.preprocessing:
        raise UserError(
            f"recommender {settings.name!r}: {settings.model.name} streams its training part, and preprocessing "
            "is fitted on a training part in memory; leave `preprocessing` out and prepare sessions in the model",
            code="models.streamed-behind-preprocessing",
            model=settings.model.name,
        )
    return streamed


def _fit(model: Model, sessions: Sessions | SessionStream, n_items: int, fitting: Fitting) -> FitReport:
    if isinstance(sessions, SessionStream):
        return model.fit_stream(sessions, n_items, fitting)
    return model.fit(sessions, n_items, fitting)


def draw_validation(view: View, exclude: Exclude, seed: int) -> Validation | None:
    """Return the view's validation part, or whole sessions drawn from it if it is very large; None if it is empty.

    Parameters
    ----------
    view
        The recommender's view.
    exclude
        Which of a session's own items a ranking leaves out.
    seed
        Seed of the drawing.
    """
    if not len(view.validation):
        return None
    predictions = view.predictions("validation")
    most = min(MAX_VALIDATION_PREFIXES, max(1000, MAX_VALIDATION_SCORES // max(1, len(view.vocabulary))))
    if len(predictions.first) > most:
        # Whole sessions: predictions of one session are not independent.
        counts = np.bincount(predictions.owner[predictions.first], minlength=len(view.validation))
        order = np.random.default_rng(seed).permutation(len(view.validation))
        enough = int(np.searchsorted(np.cumsum(counts[order]), most)) + 1
        drawn = np.zeros(len(view.validation), dtype=np.bool_)
        drawn[order[:enough]] = True
        predictions = predictions.take(drawn[predictions.owner])
    return Validation.of(predictions, exclude)


def _make_folder(workspace: Path | None) -> Path | None:
    if workspace is not None:
        workspace.mkdir(parents=True, exist_ok=True)
    return workspace
