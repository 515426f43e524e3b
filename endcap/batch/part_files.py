"""Files of the lists' parts: in a workspace while they are made, and in Parquet as they are published."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from endcap.batch.lists import ItemLists
from endcap.models import NO_ITEM, checkpoint
from endcap.store import CHECKPOINT

SCHEMA = pa.schema(
    {
        "customer": pa.string(),
        "items": pa.list_(pa.string()),
        "scores": pa.list_(pa.float32()),
        "model_version": pa.string(),
        "made": pa.timestamp("ms", tz="UTC"),
    }
)
"""The published parts: items best first; their scores, null for a fallback; `made`, when the lists were begun."""
_LISTS, _PLAN = "lists", "plan"


@dataclass(frozen=True)
class ListPlan:
    """What all parts of one version's lists have in common, fixed at the beginning.

    `made_ms` is that time, epoch ms. `customers` (int32 [c]) are by number, ascending. `allowed` (bool [n_items]) is
    what the rules that hold everywhere leave.
    """

    made_ms: int
    customers: NDArray[np.int32]
    allowed: NDArray[np.bool_]

    def save(self, work: Path, key: str) -> None:
        """Store the plan in a workspace."""
        arrays: checkpoint.Arrays = {"customers": self.customers, "allowed": self.allowed.astype(np.uint8)}
        checkpoint.write(_make_folder(work, _PLAN), key, {"made": self.made_ms}, {_PLAN: arrays})

    @classmethod
    def load(cls, work: Path, key: str) -> ListPlan | None:
        """Return the plan that was stored for this key, or None."""
        checkpointed = checkpoint.read(work / _PLAN, key)
        if checkpointed is None:
            return None
        arrays = checkpointed[1][_PLAN]
        return cls(checkpointed[0]["made"], arrays["customers"], arrays["allowed"].astype(bool))


def keep_part(work: Path, key: str, number: int, lists: ItemLists) -> None:
    """Store a whole part in a workspace."""
    checkpoint.write(_part_folder(work, number), key, {}, {_LISTS: {"items": lists.items, "scores": lists.scores}})


def load_part(work: Path, key: str, number: int) -> ItemLists:
    """Load a stored part."""
    checkpointed = checkpoint.read(work / f"{number:05d}", key)
    if checkpointed is None:
        raise FileNotFoundError(f"{work}: part {number} of {key}")
    return ItemLists(**checkpointed[1][_LISTS])


def is_part_kept(work: Path, key: str, number: int) -> bool:
    """Return whether a whole part of this key is stored; its content is not read."""
    from safetensors import SafetensorError, safe_open

    try:
        # What was cut short does not open: the header tells the length.
        with safe_open(work / f"{number:05d}" / CHECKPOINT, framework="np") as file:
            return (file.metadata() or {}).get("fit") == key
    except (FileNotFoundError, SafetensorError):
        return False


def build_part_table(
    lists: ItemLists, customers: pa.Array, vocabulary: pa.Array, version: str, made_ms: int
) -> pa.Table:
    """Build a part as it is published. `customers` are their ids [n], and `vocabulary` ids by index."""
    listed = lists.items != NO_ITEM
    offsets = pa.array(np.concatenate([[0], np.cumsum(listed.sum(axis=1))]).astype(np.int32))
    scores = lists.scores[listed]
    columns: list[Any] = [
        customers,
        pa.ListArray.from_arrays(offsets, vocabulary.take(pa.array(lists.items[listed]))),
        pa.ListArray.from_arrays(offsets, pa.array(scores, mask=np.isnan(scores))),
        pa.repeat(version, len(lists)),
        pa.repeat(pa.scalar(made_ms, SCHEMA.field("made").type), len(lists)),
    ]
    return pa.table(columns, schema=SCHEMA)


def compute_fallback_share(lists: ItemLists) -> float:
    """Return the share of the listed items that are fallbacks."""
    listed = lists.items != NO_ITEM
    return float(np.isnan(lists.scores[listed]).mean()) if listed.any() else 0.0


def write_part(file: Path, part: pa.Table) -> None:
    """Write a published part."""
    # Scores hardly repeat: a dictionary of them costs time and saves nothing.
    texts = ["customer", "items.list.element", "model_version"]
    pq.write_table(part, file, compression="zstd", use_dictionary=texts)


def name_part(number: int) -> str:
    """Return the name of a published part's file."""
    return f"part-{number:05d}.parquet"


def list_parts(folder: Path) -> list[Path]:
    """List the parts of a published artifact, in order."""
    return sorted(folder.glob("part-*.parquet"))


def _part_folder(work: Path, number: int) -> Path:
    return _make_folder(work, f"{number:05d}")


def _make_folder(work: Path, name: str) -> Path:
    folder = work / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder
