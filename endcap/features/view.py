"""A recommender's view of a dataset: its parts, its vocabulary, and what was left out."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from endcap.features.baskets import keep_customers
from endcap.features.empty_parts import refuse_empty_test, refuse_empty_training
from endcap.features.event_features import select_model_features
from endcap.features.held_out import PARTS, prepare_held_out
from endcap.features.queries import Baskets, QueryTargets, count_one_moment_sessions, select_targets
from endcap.features.sessions import Ints, Sessions, Types
from endcap.features.split import NEVER, Boundaries, find_boundaries, select_between, split_leave_one_out
from endcap.features.vocabulary import UNKNOWN, Vocabulary
from endcap.spec.recommender import GivenSplit, LeaveOneOutSplit, Order, Protocol, TimeSplit
from endcap.spec.settings import ViewSettings
from endcap.spec.shop import EventFeature

if TYPE_CHECKING:
    from endcap.features.stream import SessionStream

FOREVER = np.iinfo(np.int64).min


@dataclass(frozen=True)
class View:
    """The parts that a recommender learns from and is judged on, all in indices of one vocabulary.

    train, validation: the training part, cut where the validation begins. training: the whole training part, which
    the vocabulary is made of; its sessions that reach over the validation's start are whole. test: what is judged.
    Of validation and test, events of items that the vocabulary lacks are dropped, then sessions left with nothing to
    predict (see `judged`); features of a part that lost events are evaluated anew, as they will be on a request without
    them. Where the split is leave-one-out, `train` lacks each session's last two moments and `training` the last;
    validation and test are whole histories. Where the protocol is `basket`, the sessions of validation and test are as
    models are asked about them: with an item hidden, or behind all that their customers did before.
    items: the item table in the vocabulary's order, `events` and `first_seen` as of the training part. features: those
    the shop declares. counts: sessions and events of each part, what was dropped and why, and where the cuts are (epoch
    ms). protocol, order: what is predicted of a validation or test session, see `predictions_of`. baskets: by part,
    where the protocol is `basket`.
    streams: `train` and `training`, which are then empty here, as streams out of the dataset; None: they are in memory.
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
        """What is predicted of the part's sessions; looked for once."""
        if part not in self._predictions:
            sessions = self.validation if part == "validation" else self.test
            self._predictions[part] = select_targets(sessions, self.protocol, self.order, self.baskets.get(part))
        return self._predictions[part]

    @functools.cached_property
    def _predictions(self) -> dict[str, QueryTargets]:
        return {}


def open_view(dataset: Path, settings: ViewSettings) -> View:
    """The recommender's view of the dataset in a folder.

    Raises DataError where the split leaves nothing to learn from or nothing to judge on, and SpecError where the
    model names features that the shop does not declare.
    """
    features = read_declared_features(dataset)
    select_model_features(settings, features)
    everyone = _read(dataset, "", features)
    cuts, raw = _parts(dataset, settings, everyone, features)
    items = read_table(dataset / "items.parquet")
    vocabulary, recode, counts = build_vocabulary(_counts(raw["training"], items), items)
    parts = {name: recode_items(sessions, recode) for name, sessions in raw.items()}
    summary: dict[str, Any] = {name: count_size(part) for name, part in parts.items()}
    baskets: dict[str, Baskets] = {}
    for name in PARTS:
        log = [everyone, raw["test"]] if name == "test" and isinstance(settings.split, GivenSplit) else [everyone]
        found = prepare_held_out(parts[name], settings, features, name, functools.partial(_history, log, recode))
        parts[name], summary[name] = found.sessions, found.counts
        baskets |= {} if found.baskets is None else {name: found.baskets}
    reaching = int(everyone.offsets[np.searchsorted(everyone.starts, cuts.test)]) - len(raw["training"].items)
    summary["all"] = count_size(everyone)
    summary["cut"] = {"events_from_test_on": 0 if isinstance(settings.split, LeaveOneOutSplit) else reaching}
    summary["from"] = {"validation": to_optional_moment(cuts.validation), "test": to_optional_moment(cuts.test)}
    if isinstance(settings.split, LeaveOneOutSplit):
        summary["all"]["one_moment_sessions"] = count_one_moment_sessions(everyone, settings.order)
    refuse_empty_training(settings, cuts, summary, (int(everyone.times.min()), int(everyone.times.max())))
    refuse_empty_test(settings, cuts, summary)
    table = align_items(items, vocabulary.ids, counts, _first_seen(parts["training"], len(vocabulary)))
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


def _parts(
    dataset: Path, settings: ViewSettings, everyone: Sessions, features: Sequence[EventFeature]
) -> tuple[Boundaries, dict[str, Sessions]]:
    """Where the split cuts, and the parts by name; items are still rows of the dataset's item table."""
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
        else _read(dataset, "test_", features),
    }


def read_refit_sessions(dataset: Path, settings: ViewSettings) -> tuple[Vocabulary, Sessions]:
    """All that the winner is refitted on, with its own vocabulary: training and test where the split is by time.

    Where test sessions are given they stay apart: the training part then is all. Both are the dataset's own events.
    """
    features = read_declared_features(dataset)
    select_model_features(settings, features)
    sessions = _read(dataset, "", features)
    items = read_table(dataset / "items.parquet", ["item"])
    vocabulary, recode, _ = build_vocabulary(_counts(sessions, items), items)
    return vocabulary, recode_items(sessions, recode)


def read_declared_features(dataset: Path) -> list[EventFeature]:
    """The event features that the dataset carries, as the shop declared them."""
    return [EventFeature.model_validate(entry) for entry in json.loads((dataset / "features.json").read_text())]


def build_item_table(dataset: Path, vocabulary: Vocabulary, sessions: Sessions) -> pa.Table:
    """The item table in the vocabulary's order, `events` and `first_seen` as of sessions (of `everything`)."""
    counts = np.bincount(sessions.items, minlength=len(vocabulary))
    first_seen = _first_seen(sessions, len(vocabulary))
    return align_items(read_table(dataset / "items.parquet"), vocabulary.ids, counts, first_seen)


def read_customer_ids(dataset: Path, customers: NDArray[np.int32] | None = None) -> pa.Array:
    """The ids of customers, given by their index in the dataset: strings [c]; None: of all of them."""
    ids = read_table(dataset / "customers.parquet", ["customer"])["customer"].combine_chunks().cast(pa.string())
    return ids if customers is None else ids.take(pa.array(customers))


def _read(dataset: Path, prefix: str, features: Sequence[EventFeature]) -> Sessions:
    """A part of the dataset; its items are rows of the dataset's item table."""
    names = [feature.name for feature in features]
    events = read_table(dataset / f"{prefix}events.parquet", ["item", "time", *names])
    return build_sessions(events, read_table(dataset / f"{prefix}sessions.parquet", ["events", "customer"]), features)


def build_sessions(events: pa.Table, sessions: pa.Table, features: Sequence[EventFeature]) -> Sessions:
    """Sessions out of rows of a dataset's two tables."""
    offsets = np.concatenate([[0], np.cumsum(sessions["events"].to_numpy())]).astype(np.int64)
    typed = next((feature for feature in features if feature.kind == "type"), None)
    types = None
    if typed is not None:
        types = Types(tuple(typed.types or []), events[typed.name].to_numpy().astype(np.int16))
    return Sessions(
        items=events["item"].to_numpy(),
        times=events["time"].to_numpy(),
        offsets=offsets,
        customers=sessions["customer"].to_numpy(),
        features={one.name: events[one.name].to_numpy() for one in features},
        types=types,
    )


def read_table(file: Path, columns: list[str] | None = None) -> pa.Table:
    """A file of a dataset, or some of its columns."""
    # Without this, folders above the file that are named like `a=b` would become columns.
    return pq.read_table(file, columns=columns, partitioning=None)


def build_vocabulary(counts: Ints, items: pa.Table) -> tuple[Vocabulary, NDArray[np.int32], Ints]:
    """The vocabulary of a part, the index of each row of the item table in it (or -1), and each index's events.

    counts: events of each row in the part.
    """
    present = np.flatnonzero(counts)
    ids = items["item"].take(pa.array(present))
    by_id = pc.sort_indices(ids).to_numpy()
    # Sorted by id first, so that the stable sort by events leaves equal counts in the order of their ids.
    order = by_id[np.argsort(-counts[present][by_id], kind="stable")]
    recode = np.full(len(items), UNKNOWN, dtype=np.int32)
    recode[present[order]] = np.arange(len(present), dtype=np.int32)
    return Vocabulary(ids.take(pa.array(order)).to_pylist()), recode, counts[present[order]]


def _counts(sessions: Sessions, items: pa.Table) -> Ints:
    return np.bincount(sessions.items, minlength=len(items))


def recode_items(sessions: Sessions, recode: NDArray[np.int32]) -> Sessions:
    """Rows of the item table as indices of a vocabulary."""
    return dataclasses.replace(sessions, items=recode[sessions.items])


def _history(log: Sequence[Sessions], recode: NDArray[np.int32], customers: NDArray[np.int32]) -> Sessions:
    """All that some customers did, in the vocabulary's indices."""
    return recode_items(Sessions.concat([keep_customers(part, customers) for part in log]), recode)


def _first_seen(sessions: Sessions, n_items: int) -> NDArray[np.int64]:
    """When each item is first met in the sessions: int64 [n_items], epoch ms."""
    first = np.full(n_items, NEVER, dtype=np.int64)
    np.minimum.at(first, sessions.items, sessions.times)
    return first


def align_items(items: pa.Table, ids: list[str], counts: NDArray[np.int64], first_seen: NDArray[np.int64]) -> pa.Table:
    """The rows of the items with these ids. What the dataset counted of its whole log, the test too, is put right."""
    rows = pc.index_in(pa.array(ids, pa.string()), value_set=items["item"].cast(pa.string()))
    table = items.take(rows)
    for name, values in (("events", counts), ("first_seen", first_seen)):
        table = table.set_column(table.schema.get_field_index(name), name, pa.array(values, pa.int64()))
    return table


def count_size(sessions: Sessions) -> dict[str, int]:
    """How many sessions and events there are."""
    return {"sessions": len(sessions), "events": len(sessions.items)}


def to_optional_moment(moment: int) -> int | None:
    """A moment, None where it never comes."""
    return None if moment == NEVER else moment
