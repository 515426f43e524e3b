"""A part's sessions in batches, from a dataset that need not fit into memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from endcap.errors import DataError, UserError
from endcap.features.dataset_files import (
    align_items,
    build_vocabulary,
    read_declared_features,
    read_table,
)
from endcap.features.dataset_reader import BLOCK_EVENTS, DatasetReader, SessionRange, cut_part
from endcap.features.event_features import select_model_features
from endcap.features.sessions import Sessions
from endcap.features.split import LEFT_OUT, NEVER
from endcap.features.vocabulary import UNKNOWN, Vocabulary
from endcap.spec.evaluation import Order
from endcap.spec.event_features import EventFeature
from endcap.spec.settings import ViewSettings

Part = Literal["train", "training", "everything"]
"""Sessions before the validation, the whole training part, or all that the dataset has."""
BUFFER = 10_000
_SHARES = 8
"""Blocks that each worker has at least, if there are enough events: shares are then about equal."""


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
        """Return the share of one of `world` workers; of a share, a share of that. Raises UserError if rank is not
        below world."""
        if not 0 <= rank < world:
            raise UserError(
                f"worker {rank} of {world}: ranks are 0 to {world - 1}",
                code="features.no-such-shard",
                rank=rank,
                world=world,
            )
        return replace(self, rank=self.rank + rank * self.world, world=self.world * world)

    def epoch(self, number: int) -> SessionStream:
        """Return the same sessions in the order of another pass."""
        return replace(self, pass_number=number)

    def __iter__(self) -> Iterator[Sessions]:
        log = DatasetReader(self.dataset, self.features)
        blocks = list(log.iterate_ranges(self.sessions, self._block_events()))
        order = np.arange(len(blocks))
        random = None
        if self.seed is not None:
            # All workers deal the blocks out alike; then each shuffles its own.
            order = np.random.default_rng([self.seed, self.pass_number]).permutation(len(blocks))
            random = np.random.default_rng([self.seed, self.pass_number, self.rank])
        read = (self._part(log, blocks[place]) for place in order[self.rank :: self.world].tolist())
        yield from _shuffle_batches(read, self.batch, random, self.buffer)

    def record_batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the batches as Arrow: a row for each session, with `customer` and lists of `items`, `times` and each
        feature."""
        for sessions in self:
            offsets = pa.array(sessions.offsets.astype(np.int32))
            values = {"items": sessions.items, "times": sessions.times, **sessions.features}
            lists = {name: pa.ListArray.from_arrays(offsets, pa.array(value)) for name, value in values.items()}
            yield pa.RecordBatch.from_pydict({"customer": pa.array(sessions.customers), **lists})

    def _block_events(self) -> int:
        return max(1, min(BLOCK_EVENTS, self.events // (_SHARES * self.world)))

    def _part(self, log: DatasetReader, block: SessionRange) -> Sessions:
        sessions = cut_part(log.read(block), self.until, self.left_out, self.order)
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
    """Open the sessions of a recommender's part of the dataset in a folder; see `SessionStream`.

    The part is read once at first, to count its items for the vocabulary.

    Raises
    ------
    DataError
        If the part has no sessions.
    SpecError
        See `endcap.features.view.open_view`.
    """
    features = read_declared_features(dataset)
    select_model_features(settings, features)
    log = DatasetReader(dataset, features)
    if part == "everything":
        whole = ends = (len(log.sessions), NEVER, 0)
    else:
        cuts = log.find_boundaries(settings.split)
        whole = log.compute_extent(settings.split, cuts.test, 1)
        ends = whole if part == "training" else log.compute_extent(settings.split, cuts.validation, LEFT_OUT)
    counted = log.count_items(whole, ends, settings.order)
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


def _shuffle_batches(
    blocks: Iterator[Sessions], batch: int, random: np.random.Generator | None, buffer: int
) -> Iterator[Sessions]:
    """Yield sessions in batches; with a generator, shuffled in a pool of `buffer` sessions and a block."""
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
