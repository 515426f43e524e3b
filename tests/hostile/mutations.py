"""Ways to spoil files that Endcap wrote, each by a seed."""

from __future__ import annotations

import copy
import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import load_file, save_file

Path_ = tuple[Any, ...]
DEEP: Any = []
for _ in range(500):
    DEEP = [DEEP]
WRONG = [
    *(None, True, 0, -1, 1.5, 10**30, float("nan"), float("inf"), "", "x", "é" * 300),
    *("../../outside", "/outside", "C:\\outside", "a\x00b", "\ud800", "2026-13-99", "file:///outside/a/b/c"),
    *([], [None], [1, "x"], {}, {"a": None}, DEEP),
]
"""Values that stand in the place of others."""


def places(value: Any, at: Path_ = ()) -> Iterator[Path_]:
    """Where values stand in a document: its own, and all within."""
    yield at
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        yield from places(one, (*at, key))


def spoilt(document: Any, random_: random.Random) -> Any:
    """The document with another value somewhere, or without one, or with one more."""
    at = random_.choice(list(places(document)))
    if not at:
        return random_.choice(WRONG)
    changed = copy.deepcopy(document)
    parent = changed
    for key in at[:-1]:
        parent = parent[key]
    if random_.random() < 0.15:
        del parent[at[-1]]
    elif isinstance(parent, dict) and random_.random() < 0.1:
        parent[random_.choice(["x", "", "../x", *map(str, range(3))])] = parent.pop(at[-1])
    else:
        parent[at[-1]] = random_.choice(WRONG)
    return changed


def spoil_json(file: Path, random_: random.Random) -> None:
    file.write_text(json.dumps(spoilt(json.loads(file.read_text()), random_)))


def spoil_bytes(file: Path, random_: random.Random) -> None:
    """Cut short, emptied, replaced or changed in the middle; gone; or no file at all."""
    content = file.read_bytes()
    match random_.randrange(8):
        case 0:
            file.write_bytes(b"")
        case 1:
            file.write_bytes(content[: random_.randrange(len(content))])
        case 2:
            file.write_bytes(random_.randbytes(random_.randrange(1, 5000)))
        case 3:
            at = random_.randrange(len(content))
            file.write_bytes(content[:at] + random_.randbytes(8) + content[at + 8 :])
        case 4:
            file.write_bytes(b"[" * 100_000)
        case 5:
            file.unlink()
        case 6:
            file.unlink()
            os.mkfifo(file)
        case 7:
            file.unlink()
            file.symlink_to("/dev/zero")


def spoil_table(file: Path, random_: random.Random) -> None:
    """Without a column or some rows, with a column of another type or name, with rows twice."""
    table = pq.read_table(file)
    name = random_.choice(table.column_names)
    at = table.column_names.index(name)
    match random_.randrange(6):
        case 0:
            table = table.drop_columns([name])
        case 1:
            table = table.rename_columns([f"{one}_" if one == name else one for one in table.column_names])
        case 2:
            table = table.slice(1)
        case 3:
            table = pa.concat_tables([table, table])
        case 4:
            table = table.set_column(at, name, pa.nulls(len(table)))
        case 5:
            values = random_.choice([list(range(len(table))), [[1]] * len(table), [{"a": 1}] * len(table)])
            table = table.set_column(at, name, pa.array(values))
    pq.write_table(table, file)


def spoil_tensors(file: Path, random_: random.Random) -> None:
    """Without an array, with one of another shape or type, with indices out of bounds, or with a header that lies."""
    arrays = load_file(file)
    if not arrays or random_.random() < 0.15:
        claimed = json.dumps({"counts": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4 * 10**12]}}).encode()
        size = random_.choice([len(claimed), 10 * 10**12, 2**63])
        file.write_bytes(size.to_bytes(8, "little") + claimed)
        return
    name = random_.choice(sorted(arrays))
    values = arrays[name]
    match random_.randrange(7):
        case 0:
            del arrays[name]
        case 1:
            arrays[name] = np.concatenate([values, values])
        case 2:
            arrays[name] = values[:-1]
        case 3:
            arrays[name] = np.ascontiguousarray(values[None])
        case 4:
            arrays[name] = values.astype(random_.choice(["f8", "i8", "u1", "?", "f2"]))
        case 5:
            arrays[name] = np.full_like(values, random_.choice([-1, 100, np.iinfo(np.int8).max]))
        case 6:
            arrays[name] = values[::-1].copy()
    save_file(arrays, file)


SPOILERS = {".json": spoil_json, ".parquet": spoil_table, ".safetensors": spoil_tensors}


def spoil(folder: Path, random_: random.Random) -> list[str]:
    """Spoil one or two files below a folder; returns which."""
    every = sorted(one for one in folder.rglob("*") if one.is_file() and one.stat().st_size)
    files = random_.sample(every, random_.choice([1, 1, 1, 2]))
    for file in files:
        by_kind = SPOILERS.get(file.suffix, spoil_bytes)
        (spoil_bytes if random_.random() < 0.2 else by_kind)(file, random_)
    return [file.relative_to(folder).as_posix() for file in files]
