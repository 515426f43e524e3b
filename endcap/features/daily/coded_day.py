"""A coded day: its events as narrow integers, sorted by group, and dictionaries of its ids; and its file."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from endcap.features.daily.arrays import Codes, Ints

FILE = "day.arrow"
PARTS = ("train", "test")


@dataclass(frozen=True)
class CodedPart:
    """Events of one part of a day, in groups.

    A group is what a customer did under a session's id, or in a run without a longer pause than the gap. Groups are in
    the order of start, id and customer. A group's events lie together, in the order of events. Groups without events
    come last.

    Attributes
    ----------
    items, customers
        Ids, each once: strings [i], [c]. A customer's events may all be another's customer's activity.
    item_events, item_first
        int32 [i]: events of each item, and the time of the first, ms after `base`.
    ids
        The session's id of each group: strings [g]. None where gaps make sessions.
    hashes
        uint64 [g]: of `ids`.
    customer
        int32 [g], index in `customers`, -1 for nobody.
    first, last
        int64 [g]: the group's first and last moment with other activity, epoch ms. None where sessions are given.
    offsets
        int32 [g + 1]: the group's events.
    item, time, type
        Of each event: int32, index in `items`; int32, ms after `base`; int16, see `CodingSettings.feature_types`.
    rank
        uint32: the event's place in the day's order of events. None where no two groups are of one session.
    base
        Epoch ms.
    """

    base: int
    items: pa.Array
    customers: pa.Array
    item_events: Codes
    item_first: Codes
    customer: Codes
    offsets: Codes
    item: Codes
    time: Codes
    ids: pa.Array | None = None
    hashes: NDArray[np.uint64] | None = None
    first: Ints | None = None
    last: Ints | None = None
    type: NDArray[np.int16] | None = None
    rank: NDArray[np.uint32] | None = None

    @property
    def lengths(self) -> Codes:
        """Events of each group: int32 [g]."""
        lengths: Codes = np.diff(self.offsets)
        return lengths


@dataclass(frozen=True)
class CodedOwned:
    """Events that make an item a customer's. items, customers: ids. item, customer: int32. time: int64, epoch ms."""

    items: pa.Array
    customers: pa.Array
    item: Codes
    customer: Codes
    time: Ints


@dataclass(frozen=True)
class CodedDay:
    """What a day gives to a dataset.

    training: rows of the training part, of types that sessions are made of. inside: those of them within the window.
    unnamed: those of them that lack the session, or the customer where gaps make sessions.
    """

    training: int
    inside: int
    unnamed: int
    train: CodedPart
    test: CodedPart
    owned: CodedOwned | None = None

    def write(self, file: Path) -> None:
        """Write the day's file: Arrow's IPC format, one row with a list in each column, so that it can be mapped."""
        numbers: dict[str, int] = {name: getattr(self, name) for name in ("training", "inside", "unnamed")}
        columns: dict[str, pa.Array] = {}
        for name in ("train", "test", "owned"):
            part = getattr(self, name)
            for field in fields(part) if part is not None else ():
                value = getattr(part, field.name)
                if isinstance(value, int):
                    numbers[f"{name}.{field.name}"] = value
                elif value is not None:
                    columns[f"{name}.{field.name}"] = _wrap(value)
        schema = pa.schema(
            [(name, column.type) for name, column in columns.items()], metadata={"numbers": json.dumps(numbers)}
        )
        with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
            writer.write_batch(pa.record_batch(list(columns.values()), schema=schema))

    @classmethod
    def open(cls, file: Path) -> Self:
        """Map the file that `write` wrote into memory. The file is not open any more when this returns."""
        with pa.memory_map(str(file)) as source, pa.ipc.open_file(source) as reader:
            batch = reader.get_batch(0)
        numbers = json.loads(batch.schema.metadata[b"numbers"])
        columns = {name: _unwrap(batch[name]) for name in batch.schema.names}
        parts: dict[str, Any] = {
            name: kind(**_select(numbers, name), **_select(columns, name))
            for name, kind in (("train", CodedPart), ("test", CodedPart), ("owned", CodedOwned))
            if f"{name}.items" in columns
        }
        return cls(**{name: value for name, value in numbers.items() if "." not in name}, **parts)


def _wrap(value: Any) -> pa.Array:
    values = value if isinstance(value, pa.Array) else pa.array(value)
    return pa.LargeListArray.from_arrays(pa.array([0, len(values)], pa.int64()), values)


def _unwrap(column: pa.Array) -> Any:
    values = column.values
    return values if pa.types.is_string(values.type) else values.to_numpy(zero_copy_only=True)


def _select(values: dict[str, Any], part: str) -> dict[str, Any]:
    return {name.partition(".")[2]: value for name, value in values.items() if name.startswith(f"{part}.")}
