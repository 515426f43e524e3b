"""How a model of a spec learns from a view: on the part before the validation first, then on all that it may see."""

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
    """A fitted model and what its fit found out. device: where it was fitted, as `find_device` has it; None: not known,
    of workers of an earlier release."""

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
    """Fit on `view.train`, watched by `view.validation` where there is one; it has seen nothing of the validation."""
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
    """Fit on sessions with what an earlier fit found out. items: their table, whose attributes the model may name."""
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
    """The recommender's view; of a model that streams, what it learns from is not in memory.

    Raises UserError where such a model stands behind preprocessing, and what `open_view` raises.
    """
    return open_streamed_view(dataset, settings) if _is_streamed(settings) else open_view(dataset, settings)


def get_part(view: View, part: Literal["train", "training"]) -> Sessions | SessionStream:
    """What a model learns from."""
    if view.streams is not None:
        return view.streams[part]
    return view.train if part == "train" else view.training


@dataclass(frozen=True)
class FullData:
    """All that a winner is fitted on, with its own vocabulary. last: time of its last event, epoch ms."""

    sessions: Sessions | SessionStream
    vocabulary: Vocabulary
    items: pa.Table
    last: int

    @classmethod
    def of(cls, dataset: Path, settings: ViewSettings) -> FullData:
        """Of the dataset in a folder; a stream where the model streams."""
        if _is_streamed(settings):
            stream = stream_sessions(dataset, settings, "everything", seed=settings.seed)
            return cls(stream, stream.vocabulary, stream.items, stream.last)
        vocabulary, sessions = read_refit_sessions(dataset, settings)
        return cls(sessions, vocabulary, build_item_table(dataset, vocabulary, sessions), get_last_time(sessions))

    @property
    def count(self) -> int:
        """How many sessions."""
        return self.sessions.sessions if isinstance(self.sessions, SessionStream) else len(self.sessions)


def get_last_time(sessions: Sessions | SessionStream) -> int:
    """The time of the last event, epoch ms."""
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
    """The view's validation part, drawn from by the seed where it is very large; None where it is empty."""
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
