"""Describe a shop's data. A description is made once for a snapshot and a dataset, and kept beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from endcap.description.croissant import make_croissant
from endcap.description.dataset import describe_dataset
from endcap.description.snapshot import describe_snapshot
from endcap.description.warnings import find_warnings
from endcap.errors import NotFoundError
from endcap.events.snapshot_days import open_snapshot
from endcap.features.item_attributes import NOT_ATTRIBUTES
from endcap.rules.catalogue import Catalogue
from endcap.rules.unmatched import count_unmatched_rules
from endcap.sources.matching import count_unmatched, find_near_duplicates
from endcap.spark.executor_store import ExecutorStore
from endcap.store import Store, fingerprint, fingerprint_code, get_content_key
from endcap.store.schemas import report_malformed

Json = dict[str, Any]
FILE = "items.parquet"
"""The items that can be recommended, as one column `item`. It spares readers the whole dataset."""
CROISSANT = "croissant.json"
"""The dataset as tools of machine learning read it."""
CUSTOMERS = "customers.parquet"
IDENTITY = ("shared_sessions", "adopted_events", "anonymous_events")


def describe(
    snapshot: str | None,
    dataset: str | None,
    store: Store,
    rules: Catalogue | None = None,
    *,
    left_out: Sequence[Mapping[str, Any]] | None = None,
) -> Json:
    """Describe the data of a snapshot and a dataset.

    Parameters
    ----------
    snapshot, dataset
        Their addresses; `dataset` may be None.
    store
        The store that holds them.
    rules
        The shop's rules with their blacklist, to compare with the dataset's items.
    left_out
        The files that the current run left out (`table`, `path`, `files`). None: those of the run that made the
        snapshot, which may have read other files with the same rows.

    Returns
    -------
    dict
        JSON values: `snapshot` and `dataset`, the addresses; `shop`; `data` (`describe_snapshot`); `files`, by source,
        what was read and left out; `rows`, by table, how many were read, bad and left out, and why; `times`, `missing`
        and `activity` as in the snapshot's facts; `sessions_by`, `gap` or `given`, None if unknown. With a dataset:
        `sessions` (`describe_dataset`, with numbers before the filters, what each filter dropped, the dataset's
        `content` digest, `customers_alike` that differ in blanks or capitals alone, and customers without a row in
        the customer table); `identity`; `rules` (`count_unmatched_rules`). `warnings`: see
        `endcap.description.warnings`.

    Raises
    ------
    NotFoundError
        If an artifact no longer exists.
    """
    if snapshot is None:
        raise NotFoundError(
            f"the snapshot of {dataset} is no longer in {store.root}; run again, or name another dataset",
            code="description.no-snapshot",
            dataset=dataset,
            store=store.root,
        )
    with report_malformed("descriptions", dataset or snapshot):
        return _build(snapshot, dataset, store, rules, left_out)


def _build(
    snapshot: str,
    dataset: str | None,
    store: Store,
    rules: Catalogue | None,
    left_out: Sequence[Mapping[str, Any]] | None,
) -> Json:
    facts = store.manifest(snapshot)["facts"]
    dataset_facts = {} if dataset is None else store.manifest(dataset)["facts"]
    tables = _read_or_publish(snapshot, dataset, store)
    description: Json = {
        "snapshot": snapshot,
        "dataset": dataset,
        "shop": get_content_key(snapshot).split("/")[1],
        "data": tables["data"],
        "files": _describe_sources(facts)
        if left_out is None
        else _replace_left_out(_describe_sources(facts), left_out),
        "rows": _count_rows(facts, tables["data"]["events"]),
        "sessions_by": dataset_facts.get("sessions_by"),
        **{name: facts[name] for name in ("times", "missing", "activity") if facts.get(name)},
    }
    if dataset is not None:
        description["sessions"] = {**tables["sessions"], **_describe_sessions(dataset_facts)}
        description["identity"] = {name: dataset_facts[name] for name in IDENTITY if name in dataset_facts}
        description["identity"]["warnings"] = dataset_facts.get("warnings", [])
    if dataset is not None and rules is not None:
        description["rules"] = count_unmatched_rules(replace(rules, items=_read_item_table(dataset, store)))
    description["warnings"] = find_warnings(description)
    return description


@dataclass(frozen=True)
class DescriptionWork:
    """Reads a snapshot and its dataset, on an executor of Spark, and keeps in the store what `describe` needs of them.

    Attributes
    ----------
    store
        The store.
    """

    store: ExecutorStore

    def __call__(self, addresses: tuple[str, str]) -> Json:
        """Read the snapshot and the dataset with these addresses, once."""
        _read_or_publish(*addresses, self.store.open())
        return {}


def read_newest_items(shop: str, store: Store) -> pa.ChunkedArray | None:
    """Read the item ids of the shop's newest described dataset. None: no dataset was described."""
    for address in reversed(store.list(_artifact_kind(shop))):
        if store.manifest(address)["facts"]["dataset"] is not None:
            return _read_column(store.fetch(address) / FILE, "item")
    return None


def _read_or_publish(snapshot: str, dataset: str | None, store: Store) -> Json:
    """Return the facts of the tables, which are read once and kept."""
    code = fingerprint_code(f"{__name__}:_read_tables")
    keys = [None if address is None else get_content_key(address) for address in (snapshot, dataset)]
    kind, key = _artifact_kind(get_content_key(snapshot).split("/")[1]), fingerprint("description", *keys, code)
    address = store.find(kind, key)
    if address is None:
        with store.publish(kind, key) as draft:
            draft.facts |= {"snapshot": snapshot, "dataset": dataset, **_read_tables(snapshot, dataset, store)}
            if dataset is not None:
                ids = _read_column(store.fetch(dataset) / "items.parquet", "item")
                pq.write_table(pa.table({"item": ids}), draft.path / FILE, compression="zstd")
                croissant = make_croissant(dataset, store, beside=f"{kind}/{key}")
                (draft.path / CROISSANT).write_text(json.dumps(croissant, indent=2))
        address = draft.address
    facts: Json = store.manifest(address)["facts"]
    return facts


def _read_tables(snapshot: str, dataset: str | None, store: Store) -> Json:
    tables: Json = {"data": describe_snapshot(open_snapshot(store, snapshot))}
    if dataset is not None:
        tables["sessions"] = describe_dataset(store.fetch(dataset))
        table, ids = store.fetch(snapshot) / CUSTOMERS, _read_column(store.fetch(dataset) / CUSTOMERS, "customer")
        tables["sessions"]["customers_alike"] = find_near_duplicates(ids)
        if table.is_file():
            tables["sessions"]["customer_table"] = count_unmatched(ids, _read_column(table, "customer"))
    return tables


def _read_column(file: Path, name: str) -> pa.ChunkedArray:
    with pq.ParquetFile(file) as table:
        return table.read(columns=[name])[name]


def _artifact_kind(shop: str) -> str:
    return f"descriptions/{shop}"


def _describe_sources(facts: Mapping[str, Any]) -> list[Json]:
    """Describe each source: `table`, `path`, numbers of `files` and `bytes`, names of `skipped` and `empty` files."""
    sources = []
    for source in facts.get("sources", []):
        names = {file["path"] for file in source["files"]}
        empty = facts if source["table"] == "events" else facts.get(source["table"], {})
        facts_of = {name: source[name] for name in ("table", "path", "skipped")}
        facts_of |= {"files": len(names), "bytes": sum(file["bytes"] for file in source["files"])}
        sources.append({**facts_of, "empty": [name for name in empty.get("empty_files", []) if name in names]})
    return sources


def _replace_left_out(sources: list[Json], left_out: Sequence[Mapping[str, Any]]) -> list[Json]:
    files = {(source["table"], source["path"]): source["files"] for source in left_out}
    return [{**source, "skipped": files.get((source["table"], source["path"]), [])} for source in sources]


def _count_rows(facts: Mapping[str, Any], events: int) -> dict[str, Json]:
    """Count each table's rows: `read`, `bad` and `left_out` by reason, `examples` by reason, and `repeated`.

    Repeated rows were dropped as duplicates or replaced by a later row of the same id. None: the facts lack it.
    """
    noted_counts = {name: facts.get(name, {}) for name in ("read", "bad", "left_out", "examples")}
    rows = {}
    for name in ("events", *(name for name in ("items", "customers") if isinstance(facts.get(name), dict))):
        bad, left_out = noted_counts["bad"].get(name, {}), noted_counts["left_out"].get(name, {})
        good, read = events if name == "events" else facts[name]["rows"], noted_counts["read"].get(name)
        repeated = facts.get("duplicates", 0) if name == "events" else None
        if read is not None and name != "events":
            repeated = read - sum(bad.values()) - good
        rows[name] = {
            "read": None if read is None else read + sum(left_out.values()),
            "bad": bad,
            "left_out": left_out,
            "examples": noted_counts["examples"].get(name, {}),
            "repeated": repeated,
            "good": good,
        }
    return rows


def _describe_sessions(facts: Mapping[str, Any]) -> Json:
    """Describe the sessions by the dataset's facts."""
    after = {name: facts[name] for name in ("sessions", "events", "items", "customers")}
    window = {"from": facts["from"], "until": facts["until"]}
    before, dropped = facts.get("before_filters", {}), facts.get("dropped", {})
    return {
        "content": facts.get("content"),
        "after": after,
        "before_filters": before,
        "single": facts.get("single_sessions"),
        "dropped": dropped,
        "test": facts.get("test", {}),
        "types": facts.get("event_types"),
        "window": window,
    }


def _read_item_table(dataset: str, store: Store) -> pa.Table:
    with pq.ParquetFile(store.fetch(dataset, names=["items.parquet"]) / "items.parquet") as items:
        names = items.schema_arrow.names
        return items.read(columns=[name for name in names if name == "item" or name not in NOT_ATTRIBUTES])
