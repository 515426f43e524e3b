"""A recommender's view whose training sessions are streams."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from endcap.features.dataset_files import (
    recode_items,
)
from endcap.features.dataset_reader import DatasetReader, cut_part
from endcap.features.empty_parts import refuse_empty_test
from endcap.features.held_out import prepare_held_out
from endcap.features.queries import Baskets
from endcap.features.sessions import Sessions
from endcap.features.split import NEVER
from endcap.features.stream import Part, stream_sessions
from endcap.features.view import View, open_view, to_optional_moment
from endcap.spec.settings import ViewSettings
from endcap.spec.split import GivenSplit, LeaveOneOutSplit


def open_streamed_view(dataset: Path, settings: ViewSettings) -> View:
    """Open the recommender's view with `train` and `training` as streams, not in memory.

    Validation and test are in memory. For leave-one-out these are whole histories, so everything is in memory.
    """
    training, train = (stream_sessions(dataset, settings, part, seed=settings.seed) for part in _STREAMED)
    streams = {"training": training, "train": train}
    if isinstance(settings.split, LeaveOneOutSplit):
        return replace(open_view(dataset, settings), streams=streams)
    features = training.features
    log = DatasetReader(dataset, features)
    cuts = log.find_boundaries(settings.split)
    ends = {"validation": cuts.test, "test": NEVER}
    parts: dict[str, Sessions] = {}
    baskets: dict[str, Baskets] = {}
    counts: dict[str, Any] = {
        name: {"sessions": stream.sessions, "events": stream.events} for name, stream in streams.items()
    }
    begin = train.sessions
    for name, until in ends.items():
        end = log.compute_extent(settings.split, until, 0)[0]
        logs = [log]
        if name == "test" and isinstance(settings.split, GivenSplit):
            logs.append(DatasetReader(dataset, features, "test_"))
            raw = logs[-1].read_all()
        else:
            raw = cut_part(log.read(log.find_range(begin, end)), until, 0, settings.order)
        history = functools.partial(_read_histories, logs, training.recode)
        held_out = prepare_held_out(recode_items(raw, training.recode), settings, features, name, history)
        parts[name], counts[name] = held_out.sessions, held_out.counts
        baskets |= {} if held_out.baskets is None else {name: held_out.baskets}
        begin = end
    reaching = log.find_range(0, log.compute_extent(settings.split, cuts.test, 0)[0]).last - training.events
    counts |= {
        "all": {"sessions": len(log.sessions), "events": log.events},
        "cut": {"events_from_test_on": reaching},
        "from": {"validation": to_optional_moment(cuts.validation), "test": to_optional_moment(cuts.test)},
    }
    refuse_empty_test(settings, cuts, counts)
    nothing = parts["test"].take(np.zeros(0, dtype=np.int64))
    return View(
        vocabulary=training.vocabulary,
        train=nothing,
        training=nothing,
        validation=parts["validation"],
        test=parts["test"],
        items=training.items,
        features=features,
        counts=counts,
        protocol=settings.protocol,
        order=settings.order,
        baskets=baskets,
        streams=streams,
    )


_STREAMED: tuple[Part, Part] = ("training", "train")


def _read_histories(logs: Sequence[DatasetReader], recode: NDArray[np.int32], customers: NDArray[np.int32]) -> Sessions:
    """All that some customers did, in the vocabulary's indices."""
    return recode_items(Sessions.concat([log.read_customers(customers) for log in logs]), recode)
