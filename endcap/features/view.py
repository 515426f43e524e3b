"""A recommender's view of a dataset: its parts, its vocabulary, and what was left out."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from endcap.features.baskets import keep_customers
from endcap.features.dataset_files import (
    align_items,
    build_vocabulary,
    count_items,
    find_first_seen,
    read_declared_features,
    read_sessions,
    read_table,
    recode_items,
)
from endcap.features.empty_parts import refuse_empty_test, refuse_empty_training
from endcap.features.event_features import select_model_features
from endcap.features.held_out import PARTS, prepare_held_out
from endcap.features.queries import Baskets, QueryTargets, count_one_moment_sessions, select_targets
from endcap.features.sessions import Sessions
from endcap.features.split import NEVER, Boundaries, find_boundaries, select_between, split_leave_one_out
from endcap.features.stream import SessionStream
from endcap.features.vocabulary import Vocabulary
from endcap.spec.evaluation import Order, Protocol
from endcap.spec.event_features import EventFeature
from endcap.spec.settings import ViewSettings
from endcap.spec.split import GivenSplit, LeaveOneOutSplit, TimeSplit

FOREVER = np.iinfo(np.int64).min


@dataclass(frozen=True)
class View:
    """The parts that a recommender learns from and is judged on, all in indices of one vocabulary.

    Attributes
    ----------
    train, validation
        The training part, cut where the validation begins.
    training
        The whole training part, which decides the vocabulary. Its sessions that reach over the validation's start are
        whole.
    test
        The sessions that are judged. From validation and test, events of items that the vocabulary lacks are dropped,
        then sessions with nothing to predict (see `endcap.features.held_out`). Features are then evaluated anew, as for
        a request without these events. For leave-one-out, `train` lacks each session's last two moments and `training`
        the last; validation and test are whole histories. For the protocol `basket`, validation and test are as models
        are asked: with an item hidden, or behind all that their customers did before.
    items
        The item table in the vocabulary's order, with `events` and `first_seen` as of the training part.
    features
        Those that the shop declares.
    counts
        Sessions and events of each part, what was dropped and why, and where the cuts are (epoch ms).
    protocol, order
        What is predicted of a validation or test session, see `endcap.features.queries.select_targets`.
    baskets
        By part, for the protocol `basket`.
    streams
        `train` and `training` as streams from the dataset; they are then empty here. None: they are in memory.
    """

    vocabulary: Vocabulary
    train: Sessions
    validation: Sessions
    training: Sessions
    test: Sessions
    items: pa.Table
    features: list[EventFeature]
    counts: dict[str, Any]
    protocol: Protocol = "every-prefix"
    order: Order = "sets"
    baskets: Mapping[str, Baskets] = field(default_factory=dict)
    streams: Mapping[str, SessionStream] | None = None

    def predictions(self, part: Literal["validation", "test"]) -> QueryTargets:
        """Return what is predicted of the part's sessions; it is computed once."""
        if part not in self._predictions:
            sessions = self.validation if part == "validation" else self.test
            self._predictions[part] = select_targets(sessions, self.protocol, self.order, self.baskets.get(part))
        return self._predictions[part]

    @functools.cached_property
    def _predictions(self) -> dict[str, QueryTargets]:
        return {}


def open_view(dataset: Path, settings: ViewSettings) -> View:
    """Open the recommender's view of the dataset in a folder.

    Raises
    ------
    DataError
        If the split leaves nothing to learn from or nothing to judge on.
    SpecError
        If the model names features that the shop does not declare.
    """
    features = read_declared_features(dataset)
    select_model_features(settings, features)
    everyone = read_sessions(dataset, "", features)
    cuts, raw = _cut_parts(dataset, settings, everyone, features)
    items = read_table(dataset / "items.parquet")
    vocabulary, recode, counts = build_vocabulary(count_items(raw["training"], items), items)
    parts = {name: recode_items(sessions, recode) for name, sessions in raw.items()}
    summary: dict[str, Any] = {name: count_size(part) for name, part in parts.items()}
    baskets: dict[str, Baskets] = {}
    for name in PARTS:
        log = [everyone, raw["test"]] if name == "test" and isinstance(settings.split, GivenSplit) else [everyone]
        held_out = prepare_held_out(
            parts[name], settings, features, name, functools.partial(_select_histories, log, recode)
        )
        parts[name], summary[name] = held_out.sessions, held_out.counts
        baskets |= {} if held_out.baskets is None else {name: held_out.baskets}
    reaching = int(everyone.offsets[np.searchsorted(everyone.starts, cuts.test)]) - len(raw["training"].items)
    summary["all"] = count_size(everyone)
    summary["cut"] = {"events_from_test_on": 0 if isinstance(settings.split, LeaveOneOutSplit) else reaching}
    summary["from"] = {"validation": to_optional_moment(cuts.validation), "test": to_optional_moment(cuts.test)}
    if isinstance(settings.split, LeaveOneOutSplit):
        summary["all"]["one_moment_sessions"] = count_one_moment_sessions(everyone, settings.order)
    refuse_empty_training(settings, cuts, summary, (int(everyone.times.min()), int(everyone.times.max())))
    refuse_empty_test(settings, cuts, summary)
    table = align_items(items, vocabulary.ids, counts, find_first_seen(parts["training"], len(vocabulary)))
    return View(
        vocabulary=vocabulary,
        train=parts["train"],
        validation=parts["validation"],
        training=parts["training"],
        test=parts["test"],
        items=table,
        features=features,
        counts=summary,
        protocol=settings.protocol,
        order=settings.order,
        baskets=baskets,
    )


def _cut_parts(
    dataset: Path, settings: ViewSettings, everyone: Sessions, features: Sequence[EventFeature]
) -> tuple[Boundaries, dict[str, Sessions]]:
    """Return where the split cuts, and the parts by name; items are still rows of the dataset's item table."""
    split = settings.split
    cuts = find_boundaries(split, everyone)
    if isinstance(split, LeaveOneOutSplit):
        return cuts, split_leave_one_out(everyone, settings.order)
    return cuts, {
        "train": select_between(everyone, FOREVER, cuts.validation),
        "training": select_between(everyone, FOREVER, cuts.test),
        "validation": select_between(everyone, cuts.validation, cuts.test),
        "test": select_between(everyone, cuts.test, NEVER)
        if isinstance(split, TimeSplit)
        else read_sessions(dataset, "test_", features),
    }


def _select_histories(log: Sequence[Sessions], recode: NDArray[np.int32], customers: NDArray[np.int32]) -> Sessions:
    """Select all that some customers did, in the vocabulary's indices."""
    return recode_items(Sessions.concat([keep_customers(part, customers) for part in log]), recode)


def count_size(sessions: Sessions) -> dict[str, int]:
    """Count sessions and events."""
    return {"sessions": len(sessions), "events": len(sessions.items)}


def to_optional_moment(moment: int) -> int | None:
    """Return a moment, None if it never comes."""
    return None if moment == NEVER else moment
