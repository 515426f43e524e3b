"""Read the shop's rule data and item table from its files."""

from __future__ import annotations

import functools
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from endcap.errors import DataError
from endcap.rules.catalogue import Catalogue
from endcap.simulation.simulated_sources import write_simulated_files
from endcap.sources.column_mapping import list_id_columns, map_id_list
from endcap.sources.engine import open_engine
from endcap.sources.files import find_files
from endcap.sources.layouts import complete_source
from endcap.sources.load import Loader
from endcap.sources.quarantine import Quarantine
from endcap.sources.values.clock import make_clock
from endcap.sources.write_table import write_table
from endcap.spec.rules import Blacklist, Rules
from endcap.spec.shop import Shop
from endcap.spec.side_tables import Items

Progress = Callable[[str], None]


def read_catalogue(shop: Shop, progress: Progress = lambda line: None) -> Catalogue:
    """Read the sources of the item table and the blacklist.

    Parameters
    ----------
    shop
        The shop's spec.
    progress
        Takes a line about bad rows of the item table, which are left out up to `events.max_bad_share`.

    Returns
    -------
    Catalogue
        The rules with the data of this moment.

    Raises
    ------
    DataError
        If a file has mistakes, with file, line and reason. A blacklist must have no bad row.
    StorageError
        If this machine's disk is full.
    """
    now = int(time.time() * 1000)
    blacklist = read_blacklist(shop, progress)
    if shop.items is None:
        return Catalogue(shop.rules, blacklist=blacklist, read_time=now)
    with write_simulated_files(shop, progress) as with_files:
        assert with_files.items is not None
        return Catalogue(shop.rules, _read_items(with_files, with_files.items, now, progress), blacklist, now)


def read_rules(shop: Shop, progress: Progress = lambda line: None) -> Catalogue | None:
    """Read the shop's rules with the current blacklist, without items. None: the shop has no rules.

    Raises DataError, StorageError.
    """
    if shop.rules == Rules():
        return None
    return Catalogue(shop.rules, blacklist=read_blacklist(shop, progress), read_time=int(time.time() * 1000))


def read_blacklist(shop: Shop, progress: Progress = lambda line: None) -> frozenset[str]:
    """Read the ids of the blacklist's sources. Without a blacklist there are none. Raises DataError, StorageError."""
    blacklist = shop.rules.blacklist
    if blacklist is None:
        return frozenset()
    items: set[str] = set()
    with _open_loader("blacklist", shop, 0.0, "rules.blacklist", progress) as loader:
        for rows in _read_list(blacklist, loader, shop.events.float_ids == "whole"):
            items.update(rows["item"].to_pylist())
    return frozenset(items)


def _read_list(blacklist: Blacklist, loader: Loader, whole_ids: bool) -> Iterator[pa.Table]:
    columns = list_id_columns(blacklist.column, "rules.blacklist.column")
    make_mapping = functools.partial(map_id_list, blacklist.column, whole=whole_ids)
    for source in blacklist.sources:
        files = find_files(source, loader.progress).files
        # A list may become empty. A file without even its header is one that is being written.
        headless = [file.name for file in files if not file.bytes and file.format != "jsonl" and source.header is None]
        if headless:
            raise DataError(
                f"{headless[0]} is empty, it lacks even its header; an empty blacklist has one",
                code="rules.blacklist-without-header",
                path=headless[0],
            )
        yield from loader.load(source, files, columns, make_mapping)
    loader.quarantine.check(loader.table, end=True)


def _read_items(shop: Shop, items: Items, now: int, progress: Progress) -> pa.Table:
    with _open_loader("items", shop, shop.events.max_bad_share, "events.max_bad_share", progress) as loader:
        sources = [complete_source(source) for source in items.sources]
        files = [(source, find_files(source, progress).files) for source in sources]
        folder = loader.quarantine.file.parent
        write_table(items, files, folder, loader, now, whole=shop.events.float_ids == "whole")
        reasons = loader.quarantine.bad.get("items")
        if reasons:
            counts = ", ".join(f"{count:,} because {reason}" for reason, count in reasons.most_common())
            progress(f"rows of the item table that are left out: {counts}")
        # Without this, folders above the file that are named like `a=b` would become columns.
        return pq.read_table(folder / "items.parquet", columns=["item", *items.attributes], partitioning=None)


@contextmanager
def _open_loader(table: str, shop: Shop, limit: float, setting: str, progress: Progress) -> Iterator[Loader]:
    time_rule = shop.events.time
    with (
        tempfile.TemporaryDirectory(prefix="endcap-rules-") as place,
        open_engine(Path(place) / "spill", time_rule.zone) as connection,
        Quarantine(Path(place) / "bad.jsonl", limit, time_rule, setting=setting, is_kept=False) as quarantine,
    ):
        yield Loader(table, connection, quarantine, progress, make_clock(time_rule.zone), words=shop.events.null_values)
