"""Sessions of a part in batches, out of a dataset that need not fit into memory."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from endcap.errors import DataError, UserError
from endcap.features.baskets import keep_customers
from endcap.features.empty_parts import refuse_empty_test
from endcap.features.event_features import select_model_features
from endcap.features.held_out import prepare_held_out
from endcap.features.queries import Baskets
from endcap.features.sessions import Ints, Sessions
from endcap.features.split import LEFT_OUT, NEVER, Boundaries, compute_boundaries, drop_last_moments, where
from endcap.features.view import (
    View,
    align_items,
    build_sessions,
    build_vocabulary,
    open_view,
    read_declared_features,
    read_table,
    recode_items,
    to_optional_moment,
)
from endcap.features.vocabulary import UNKNOWN, Vocabulary
from endcap.spec.recommender import GivenSplit, LeaveOneOutSplit, Order, TimeSplit
from endcap.spec.settings import ViewSettings
from endcap.spec.shop import EventFeature

Part = Literal["train", "training", "everything"]
"""Sessions before the validation, the whole training part, or all that the dataset has."""
BLOCK_EVENTS = 100_000
"""Events that are read at once, about a row group of a dataset's files."""
BUFFER = 10_000
_SHARES = 8
"""Blocks that each worker has at least, where there are enough events: shares are then about equal."""


class ParquetRows:
    """The rows of a Parquet file by their number, read by row groups."""

    def __init__(self, file: Path) -> None:
        self._file = pq.ParquetFile(file)
        groups = range(self._file.num_row_groups)
        sizes = [self._file.metadata.row_group(number).num_rows for number in groups]
        self._edges = np.cumsum([0, *sizes], dtype=np.int64)

    def __len__(self) -> int:
        return int(self._edges[-1])

    def read(self, begin: int, end: int, columns: Sequence[str]) -> pa.Table:
        """Rows begin … end - 1."""
        first, last = (int(np.searchsorted(self._edges, row, "right")) - 1 for row in (begin, max(begin, end - 1)))
        groups = range(first, min(last + 1, self._file.num_row_groups))
        table = self._file.read_row_groups(list(groups), list(columns))
        return table.slice(begin - int(self._edges[first]), end - begin)

    def batches(self, column: str, until: int) -> Iterator[NDArray[Any]]:
        """A column's values in rows 0 … until - 1, a row group at a time."""
        for begin, end in zip(self._edges[:-1].tolist(), self._edges[1:].tolist(), strict=True):
            if begin < until:
                yield self.read(begin, min(end, until), [column])[column].to_numpy()

    def value(self, column: str, row: int) -> int:
        """One value."""
        return int(self.read(row, row + 1, [column])[column][0].as_py())

    def before(self, column: str, moment: int) -> int:
        """How many rows have less than `moment` in a column that ascends."""
        low, high = 0, len(self._edges) - 1
        while low < high:  # the first group whose last value reaches the moment
            middle = (low + high) // 2
            if self.value(column, int(self._edges[middle + 1]) - 1) < moment:
                low = middle + 1
            else:
                high = middle
        if low == len(self._edges) - 1:
            return len(self)
        begin, end = int(self._edges[low]), int(self._edges[low + 1])
        return begin + int(np.searchsorted(self.read(begin, end, [column])[column].to_numpy(), moment))


@dataclass(frozen=True)
class SessionStream:
    """The sessions of a part, read from a dataset's files in batches, as often as it is iterated over.

    Each session comes exactly once, as `open_view` has it in memory: with the same vocabulary, features and cuts.
    Memory holds about a block of events and the buffer, whatever the size of the log. It can be pickled, for workers.

    Parameters
    ----------
    vocabulary, items, features
        As of a `View`: of the whole training part, or of everything.
    sessions, events, last
        How many there are in the part, and the time of its last event (epoch ms).
    batch
        Sessions of a batch; the last ones of a pass may be fewer.
    seed
        Sessions are shuffled by it; None: they come in the order of their starts.
    buffer
        Sessions that are shuffled among each other. More mix better and take more memory.
    rank, world
        This is the share of worker `rank` of `world`; no session is in two shares.
    pass_number
        Another number is another order of the same seed.
    """

    dataset: Path
    vocabulary: Vocabulary
    items: pa.Table
    features: list[EventFeature]
    sessions: int
    events: int
    last: int
    until: int
    left_out: int
    recode: NDArray[np.int32]
    order: Order = "sets"
    batch: int = 1024
    seed: int | None = None
    buffer: int = BUFFER
    rank: int = 0
    world: int = 1
    pass_number: int = 0

    def shard(self, rank: int, world: int) -> SessionStream:
        """The share of one of `world` workers; of a share, a share of that. Raises UserError where rank is not less."""
        if not 0 <= rank < world:
            raise UserError(
                f"worker {rank} of {world}: ranks are 0 to {world - 1}",
                code="features.no-such-shard",
                rank=rank,
                world=world,
            )
        return replace(self, rank=self.rank + rank * self.world, world=self.world * world)

    def epoch(self, number: int) -> SessionStream:
        """The same sessions in the order of another pass."""
        return replace(self, pass_number=number)

    def __iter__(self) -> Iterator[Sessions]:
        log = DatasetReader(self.dataset, self.features)
        blocks = list(log.blocks(self.sessions, self._block_events()))
        order = np.arange(len(blocks))
        random = None
        if self.seed is not None:
            # All workers deal the blocks out alike; then each shuffles its own.
            order = np.random.default_rng([self.seed, self.pass_number]).permutation(len(blocks))
            random = np.random.default_rng([self.seed, self.pass_number, self.rank])
        read = (self._part(log, blocks[place]) for place in order[self.rank :: self.world].tolist())
        yield from _batches(read, self.batch, random, self.buffer)

    def record_batches(self) -> Iterator[pa.RecordBatch]:
        """The batches as Arrow: a row a session, with `customer` and lists of `items`, `times` and each feature."""
        for one in self:
            offsets = pa.array(one.offsets.astype(np.int32))
            values = {"items": one.items, "times": one.times, **one.features}
            lists = {name: pa.ListArray.from_arrays(offsets, pa.array(value)) for name, value in values.items()}
            yield pa.RecordBatch.from_pydict({"customer": pa.array(one.customers), **lists})

    def _block_events(self) -> int:
        return max(1, min(BLOCK_EVENTS, self.events // (_SHARES * self.world)))

    def _part(self, log: DatasetReader, block: SessionRange) -> Sessions:
        sessions = _within(log.read(block), self.until, self.left_out, self.order)
        return replace(sessions, items=self.recode[sessions.items])


def stream_sessions(
    dataset: Path,
    settings: ViewSettings,
    part: Part = "training",
    *,
    batch: int = 1024,
    seed: int | None = None,
    buffer: int = BUFFER,
    rank: int = 0,
    world: int = 1,
) -> SessionStream:
    """The sessions of a recommender's part of the dataset in a folder; see `SessionStream`.

    Reads the part once, to count its items for the vocabulary. Raises DataError where the part has no sessions, and
    what `open_view` raises of features.
    """
    features = read_declared_features(dataset)
    select_model_features(settings, features)
    log = DatasetReader(dataset, features)
    if part == "everything":
        whole = ends = (len(log.sessions), NEVER, 0)
    else:
        cuts = log.cuts(settings.split)
        whole = log.extent(settings.split, cuts.test, 1)
        ends = whole if part == "training" else log.extent(settings.split, cuts.validation, LEFT_OUT)
    counted = log.count(whole, ends, settings.order)
    if not counted.events:
        raise DataError(
            f"recommender {settings.name!r}: the split leaves no sessions in its part {part!r}; set split.test or "
            "split.validation smaller, or bring a longer log",
            code="features.empty-part",
            part=part,
        )
    items = read_table(dataset / "items.parquet")
    vocabulary, recode, counts = build_vocabulary(counted.items, items)
    rows = np.flatnonzero(recode != UNKNOWN)
    first_seen = np.empty(len(rows), dtype=np.int64)
    first_seen[recode[rows]] = counted.first_seen[rows]
    stream = SessionStream(
        dataset=dataset,
        vocabulary=vocabulary,
        items=align_items(items, vocabulary.ids, counts, first_seen),
        features=features,
        sessions=ends[0],
        events=counted.events,
        last=counted.last,
        until=ends[1],
        left_out=ends[2],
        recode=recode,
        order=settings.order,
        batch=batch,
        seed=seed,
        buffer=buffer,
    )
    return stream.shard(rank, world)


def open_streamed_view(dataset: Path, settings: ViewSettings) -> View:
    """The recommender's view, whose parts `train` and `training` are streams and not in memory.

    Validation and test are in memory; where the split is leave-one-out these are whole histories, and so is the rest.
    """
    training, train = (stream_sessions(dataset, settings, part, seed=settings.seed) for part in _STREAMED)
    streams = {"training": training, "train": train}
    if isinstance(settings.split, LeaveOneOutSplit):
        return replace(open_view(dataset, settings), streams=streams)
    features = training.features
    log = DatasetReader(dataset, features)
    cuts = log.cuts(settings.split)
    ends = {"validation": cuts.test, "test": NEVER}
    parts: dict[str, Sessions] = {}
    baskets: dict[str, Baskets] = {}
    counts: dict[str, Any] = {name: {"sessions": one.sessions, "events": one.events} for name, one in streams.items()}
    begin = train.sessions
    for name, until in ends.items():
        end = log.extent(settings.split, until, 0)[0]
        logs = [log]
        if name == "test" and isinstance(settings.split, GivenSplit):
            logs.append(DatasetReader(dataset, features, "test_"))
            raw = logs[-1].all()
        else:
            raw = _within(log.read(log.block(begin, end)), until, 0, settings.order)
        history = functools.partial(_history, logs, training.recode)
        found = prepare_held_out(recode_items(raw, training.recode), settings, features, name, history)
        parts[name], counts[name] = found.sessions, found.counts
        baskets |= {} if found.baskets is None else {name: found.baskets}
        begin = end
    reaching = log.block(0, log.extent(settings.split, cuts.test, 0)[0]).last - training.events
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
_Extent = tuple[int, int, int]
"""Of a part: how many of the first sessions, events before which time, and how many of each session's last moments are
left out."""


@dataclass(frozen=True)
class SessionRange:
    """Sessions begin … end - 1, which are the events first … last - 1."""

    begin: int
    end: int
    first: int
    last: int


@dataclass(frozen=True)
class PartCounts:
    """items: events of each row of the item table; first_seen: when each is first met; events, last: of the part."""

    items: Ints
    first_seen: Ints
    events: int
    last: int


class DatasetReader:
    """A dataset's sessions and events, by their numbers."""

    def __init__(self, dataset: Path, features: Sequence[EventFeature], prefix: str = "") -> None:
        self.sessions = ParquetRows(dataset / f"{prefix}sessions.parquet")
        self._events = ParquetRows(dataset / f"{prefix}events.parquet")
        self._rows = pq.read_metadata(dataset / "items.parquet").num_rows
        self._features = features

    @property
    def events(self) -> int:
        """How many there are."""
        return len(self._events)

    def cuts(self, split: TimeSplit | GivenSplit | LeaveOneOutSplit) -> Boundaries:
        """Where the split cuts: as `boundaries` says of sessions in memory."""
        if isinstance(split, LeaveOneOutSplit) or not len(self.sessions):
            return Boundaries(NEVER, NEVER)
        latest = max(int(values.max()) for values in self.sessions.batches("end", len(self.sessions)))
        size = len(self.sessions)
        return compute_boundaries(
            split,
            size,
            lambda place: self.sessions.value("start", place),
            lambda moment: self.sessions.before("start", moment),
            latest + 1,
        )

    def extent(self, split: TimeSplit | GivenSplit | LeaveOneOutSplit, until: int, left_out: int) -> _Extent:
        """Of the part that ends at a time, or less each session's last moments where the split is leave-one-out."""
        if isinstance(split, LeaveOneOutSplit):
            return len(self.sessions), NEVER, left_out
        return (len(self.sessions) if until == NEVER else self.sessions.before("start", until)), until, 0

    def blocks(self, sessions: int, events: int) -> Iterator[SessionRange]:
        """The first sessions in runs of about so many events."""
        begin = first = number = place = 0
        for lengths in self.sessions.batches("events", sessions):
            ends = place + np.cumsum(lengths)
            while len(ends) and ends[-1] - first >= events:
                taken = int(np.searchsorted(ends, first + events)) + 1
                number, place = number + taken, int(ends[taken - 1])
                yield SessionRange(begin, number, first, place)
                begin, first, ends = number, place, ends[taken:]
            if len(ends):
                number, place = number + len(ends), int(ends[-1])
        if number > begin:
            yield SessionRange(begin, number, first, place)

    def block(self, begin: int, end: int) -> SessionRange:
        """Some sessions as one block."""
        first = sum(int(lengths.sum()) for lengths in self.sessions.batches("events", begin))
        return SessionRange(
            begin, end, first, first + int(self.sessions.read(begin, end, ["events"])["events"].to_numpy().sum())
        )

    def read(self, block: SessionRange) -> Sessions:
        """A block's sessions; items are rows of the dataset's item table."""
        names = [feature.name for feature in self._features]
        events = self._events.read(block.first, block.last, ["item", "time", *names])
        return build_sessions(
            events, self.sessions.read(block.begin, block.end, ["events", "customer"]), self._features
        )

    def all(self) -> Sessions:
        """Every session."""
        return self.read(SessionRange(0, len(self.sessions), 0, len(self._events)))

    def of_customers(self, customers: NDArray[np.int32]) -> Sessions:
        """The sessions of some customers, read a block at a time."""
        nothing = [self.read(SessionRange(0, 0, 0, 0))]
        blocks = self.blocks(len(self.sessions), BLOCK_EVENTS)
        return Sessions.concat([*nothing, *(keep_customers(self.read(block), customers) for block in blocks)])

    def count(self, whole: _Extent, part: _Extent, order: Order) -> PartCounts:
        """Items as they occur in the whole, events as they are in the part."""
        counts, first_seen = np.zeros(self._rows, dtype=np.int64), np.full(self._rows, NEVER, dtype=np.int64)
        events = last = 0
        for block in self.blocks(whole[0], BLOCK_EVENTS):
            raw = self.read(block)
            sessions = _within(raw, *whole[1:], order)
            counts += np.bincount(sessions.items, minlength=self._rows)
            np.minimum.at(first_seen, sessions.items, sessions.times)
            if block.begin < part[0]:
                kept = raw.take(np.arange(min(block.end, part[0]) - block.begin))
                of_part = _within(kept, *part[1:], order)
                events, last = events + len(of_part.items), max(last, int(of_part.times.max(initial=0)))
        return PartCounts(counts, first_seen, events, last)


def _history(logs: Sequence[DatasetReader], recode: NDArray[np.int32], customers: NDArray[np.int32]) -> Sessions:
    """All that some customers did, in the vocabulary's indices."""
    return recode_items(Sessions.concat([log.of_customers(customers) for log in logs]), recode)


def _within(sessions: Sessions, until: int, left_out: int, order: Order) -> Sessions:
    """Sessions less their events from `until` on, and less so many last moments where the split is leave-one-out."""
    if left_out:
        return drop_last_moments(sessions, left_out, order)
    kept = sessions.times < until
    return sessions if kept.all() else where(sessions, kept)


def _batches(
    blocks: Iterator[Sessions], batch: int, random: np.random.Generator | None, buffer: int
) -> Iterator[Sessions]:
    """Sessions in batches; with a generator, shuffled in a pool of `buffer` sessions and a block."""
    pool: Sessions | None = None
    for block in blocks:
        pool = block if pool is None else Sessions.concat([pool, block])
        keep = 0
        if random is not None:
            pool, keep = pool.take(random.permutation(len(pool))), buffer
        whole = max(0, len(pool) - keep) // batch * batch
        yield from (pool.take(np.arange(begin, begin + batch)) for begin in range(0, whole, batch))
        pool = pool.take(np.arange(whole, len(pool)))
    if pool is not None:
        for begin in range(0, len(pool), batch):
            yield pool.take(np.arange(begin, min(begin + batch, len(pool))))
