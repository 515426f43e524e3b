"""Ingest: a shop's files become a snapshot, once for the same content."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any

from endcap.events.forget_list import ForgetList, read_forget_list
from endcap.events.ingest_engine import IngestEngine, open_ingest_engine
from endcap.events.kept_tables import TableKeeper
from endcap.events.reuse import compare_days, count_read, format_reuse
from endcap.events.snapshot import QUARANTINE
from endcap.events.snapshot_days import PARALLEL, find_units
from endcap.events.source_inputs import SourceInput, list_sources
from endcap.events.write_events import write_events
from endcap.progress import Notice
from endcap.simulation.simulated_sources import write_simulated_files
from endcap.sources.engine import open_engine
from endcap.sources.find import digest_part, find_parts
from endcap.sources.load import Loader, Progress
from endcap.sources.pandas_import import defer_pandas
from endcap.sources.pseudonymised_rows import find_key_id
from endcap.sources.quarantine import Quarantine
from endcap.sources.source_index import SourceIndex, open_source_index
from endcap.spec.shop import Shop
from endcap.steps import STEPS
from endcap.store import Store, fingerprint, fingerprint_code, report_storage_errors


def ingest(shop: Shop, store: Store, *, until: datetime | None = None, progress: Progress = lambda line: None) -> str:
    """Read the shop's sources into an immutable snapshot (kind ``snapshots/<shop>``).

    Parameters
    ----------
    shop
        The shop's spec, which names its sources.
    store
        The store that keeps the snapshot.
    until
        The logical date, UTC if it names no zone. Of a table in a warehouse, only the days that a dataset of this date
        needs are read. None: all days.
    progress
        Takes a line now and then.

    Returns
    -------
    str
        The snapshot's address.

    Raises
    ------
    DataError
        If files or columns are missing, or too many rows are bad.
    UserError
        If the shop has pseudonyms, and there is no key for them.
    StorageError
        If the store or this machine's disk refuses.

    Notes
    -----
    Unchanged input is not read again. Of a log that changed, only the files are read whose units are new
    (`endcap.events.parsed_units`); the snapshot refers to the rest. The same files give the same snapshot, whatever was
    ingested before.
    """
    find_key_id(shop)  # a missing key is an error before anything is read
    defer_pandas()
    with (
        write_simulated_files(shop, progress) as with_files,
        open_source_index(store if with_files is shop else None, shop.name, progress) as index,
        open_ingest_engine(with_files, store, progress) as engine,
    ):
        inputs = _find_inputs(with_files, until, index, engine, progress)
        index.save()  # so that a run that is killed later leaves it
        return _ingest(with_files, inputs, store, engine, progress)


def _ingest(shop: Shop, inputs: list[SourceInput], store: Store, engine: IngestEngine, progress: Progress) -> str:
    forgotten = read_forget_list(store, shop.name)
    work, key = f"ingests/{shop.name}", _compute_key(shop, inputs, forgotten)
    if snapshot := _find_snapshot(store, shop, key):
        return snapshot
    with store.workspace(work, key, progress) as folder, report_storage_errors(folder):
        snapshot = _find_snapshot(
            store, shop, key
        )  # another run of the same input may have ended while this one waited
        if snapshot:
            return snapshot
        staging = folder / "staging"
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir()
        try:
            address = _write_snapshot(shop, inputs, staging, folder / QUARANTINE, store, engine, progress, forgotten)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        store.write_document(f"ingests/{key}", {"snapshot": address.rsplit("/", 1)[-1], "shop": shop.name})
    return address


def _find_inputs(
    shop: Shop, until: datetime | None, index: SourceIndex, engine: IngestEngine, progress: Progress
) -> list[SourceInput]:
    inputs = []
    for declared in list_sources(shop, until):
        table, source = declared.table, declared.source
        if table == "events" and source.bigquery is None:
            engine.learn(source, index)
        parts = find_parts(source, progress, days=declared.days, time=declared.time, index=index)
        if parts.skipped:
            text = f"{source.path}: {describe_left_out(parts.skipped)}"
            progress(Notice(text, table=table, path=source.path, files=parts.skipped))
        inputs.append(SourceInput(table, source, parts, [digest_part(part, index) for part in parts.files]))
    return inputs


def describe_left_out(files: Sequence[str]) -> str:
    """Return the message about skipped files of unknown formats."""
    names = [PurePosixPath(file).name for file in files[:10]]
    rest_text = f" and {len(files) - len(names):,} more" if len(files) > len(names) else ""
    is_left = "file of no known format is" if len(files) == 1 else "files of no known format are"
    return f"{len(files):,} {is_left} left out: {', '.join(names)}{rest_text}"


def _compute_key(shop: Shop, inputs: list[SourceInput], forgotten: ForgetList) -> str:
    """Fingerprint what the outcome depends on: the files' content and how they are read, not their places."""
    files = [
        [
            entry.table,
            entry.source.model_dump(mode="json", exclude={"path", "bigquery"}),
            [[file.format, file.compression] for file in entry.source_files.files],
            entry.digests,
        ]
        for entry in inputs
    ]
    declared: dict[str, Any] = {
        "events": shop.events.model_dump(mode="json", exclude={"sources", "engine"}),
        "items": shop.items and shop.items.model_dump(mode="json", exclude={"sources"}),
        "customers": shop.customers and shop.customers.model_dump(mode="json", exclude={"sources"}),
        "sessions": shop.sessions.by,
        "types": shop.kept_types,
        "pseudonyms": find_key_id(shop),
    }
    if forgotten:
        declared["forgotten"] = forgotten.version
    return fingerprint("ingest", shop.name, files, declared, fingerprint_code(STEPS["ingest"].entry))


def _find_snapshot(store: Store, shop: Shop, key: str) -> str | None:
    """Find the snapshot that an input became. One that lacks a unit is made again."""
    document = store.read_document(f"ingests/{key}")
    address = store.find(STEPS["ingest"].folder(shop.name), document["snapshot"]) if document else None
    return address if address is not None and _is_whole(store, address) else None


def _is_whole(store: Store, address: str) -> bool:
    units = find_units(store.manifest(address)["facts"])
    with ThreadPoolExecutor(PARALLEL) as pool:
        return None not in list(pool.map(lambda unit: store.find(*unit.rsplit("/", 1)), units))


def _write_snapshot(
    shop: Shop,
    inputs: list[SourceInput],
    staging: Path,
    bad_rows: Path,
    store: Store,
    engine: IngestEngine,
    progress: Progress,
    forgotten: ForgetList,
) -> str:
    limit, time_rule = shop.events.max_bad_share, shop.events.time
    kind = STEPS["ingest"].folder(shop.name)
    with (
        open_engine(staging / "spill", time_rule.zone) as connection,
        Quarantine(bad_rows, limit, time_rule) as quarantine,
    ):
        files = [(entry.source, entry.source_files.files, entry.digests) for entry in inputs if entry.table == "events"]
        loader = Loader("events", connection, quarantine, progress, words=shop.events.null_values)
        events = write_events(shop, files, store, staging, loader, engine, forgotten)
        tables = {}
        for name, table in (("items", shop.items), ("customers", shop.customers)):
            if table is not None:
                of_table = [entry for entry in inputs if entry.table == name]
                keeper = TableKeeper(shop, store, staging, bad_rows.parent, connection, progress, forgotten)
                tables[name] = keeper.keep(name, table, of_table, events["last"], quarantine)
    days, before, units = events["days"], _read_newest_days(store, kind), events.pop("units")
    reuse = compare_days(days, before) | count_read(days, before, units["read"]) | {"kept": units["kept"]}
    times = events.pop("times")
    content = {"events": events["content"], **{name: facts["content"] for name, facts in tables.items()}}
    # Bad rows are of the snapshot too, if not of its content: it says how many were set aside, and keeps them. Of those
    # that rules leave out it says how many they are.
    left_out = {table: dict(counts) for table, counts in quarantine.left_out.items()}
    ordered = content | {"events": [day["key"] for day in events["days"]]}
    key = fingerprint(
        "snapshot", ordered, quarantine.digest, left_out, find_key_id(shop), fingerprint_code(STEPS["ingest"].entry)
    )
    progress(format_reuse(reuse))
    if address := store.find(kind, key):
        progress("the same rows, in other files, are a snapshot already")
        return address
    with store.publish(kind, key) as draft:
        for name in tables:
            shutil.move(staging / f"{name}.parquet", draft.path / f"{name}.parquet")
        shutil.move(bad_rows, draft.path / QUARANTINE)
        draft.facts |= events | tables
        draft.facts["fingerprint"] = fingerprint("content", content)
        draft.facts["read"] = dict(quarantine.rows)
        draft.facts["left_out"] = left_out
        draft.facts["bad"] = {table: dict(counts) for table, counts in quarantine.bad.items()}
        draft.facts["examples"] = quarantine.examples
        draft.facts["times"] = times
        draft.facts["sources"] = [entry.facts() for entry in inputs]
        draft.facts["reuse"] = reuse
        draft.facts["pseudonyms"] = find_key_id(shop)
    return draft.address


def _read_newest_days(store: Store, kind: str) -> list[dict[str, Any]]:
    """Read the days of the shop's newest snapshot; none if there is none, or an earlier release made it."""
    addresses = store.list(kind)
    days: list[dict[str, Any]] = store.manifest(addresses[-1])["facts"].get("days", []) if addresses else []
    return days
