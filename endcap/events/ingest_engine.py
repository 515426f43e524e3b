"""What differs by engine in ingest: who hashes and parses the files of a log, and who merges days that share rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, Protocol

from endcap.events.distinct_days import DistinctWriter, SharedDay
from endcap.events.parsed_units import Unit, compute_unit_key
from endcap.events.snapshot_days import PARALLEL
from endcap.events.unit_reading import ParsedUnit, UnitReader
from endcap.sources.load import Progress
from endcap.sources.source_index import SourceIndex
from endcap.spec.shop import Shop
from endcap.spec.source import SourceSpec
from endcap.store import Store

Json = dict[str, Any]


class IngestEngine(Protocol):
    """Does the work on a log's rows. All engines do the same with the same code; they differ in where."""

    def learn(self, source: SourceSpec, index: SourceIndex) -> None:
        """Learn what the files of a source hold, where that is not this machine's work. Raises as `find_files` does."""

    def parse(self, units: Sequence[Unit], reader: UnitReader) -> Iterator[ParsedUnit]:
        """Put the rows of units into the store, and yield the units in their order.

        Parameters
        ----------
        units
            Units that the store does not have, no two of one content.
        reader
            Parses on this machine.

        Raises
        ------
        DataError
            If a unit cannot be read, or too many of its rows are bad; of several, the first unit's error.
        """

    def write_distinct(self, days: Sequence[SharedDay], writer: DistinctWriter) -> Sequence[Json]:
        """Publish the distinct rows of days, and return the facts of each, as `writer` does on this machine."""


class LocalEngine:
    """Does all on this machine, with DuckDB."""

    def learn(self, source: SourceSpec, index: SourceIndex) -> None:
        """Do nothing: files are opened and hashed here when they are found."""

    def parse(self, units: Sequence[Unit], reader: UnitReader) -> Iterator[ParsedUnit]:
        """See `IngestEngine`."""
        return reader.parse(units)

    def write_distinct(self, days: Sequence[SharedDay], writer: DistinctWriter) -> Sequence[Json]:
        """See `IngestEngine`."""
        return [writer.write(day) for day in days]


def read_units(units: Sequence[Unit], reader: UnitReader, engine: IngestEngine) -> Iterator[ParsedUnit]:
    """Yield units, in their order, whose rows are in the store: kept ones, and those that the engine parses.

    Of units of one content, the first is parsed. Raises as `IngestEngine.parse` does.
    """
    keys = [compute_unit_key(reader.shop, unit, reader.forgotten) for unit in units]
    distinct: dict[str, Unit] = {}
    for key, unit in zip(keys, units, strict=True):
        distinct.setdefault(key, unit)
    with ThreadPoolExecutor(PARALLEL) as pool:
        kept = dict(zip(distinct, pool.map(reader.find, distinct.values()), strict=True))
    parsed = engine.parse([unit for key, unit in distinct.items() if kept[key] is None], reader)
    for key, unit in zip(keys, units, strict=True):
        known = kept[key]
        if known is None:
            known = next(parsed)
            kept[key] = replace(known, is_kept=True)
        yield replace(known, unit=unit)


def open_ingest_engine(shop: Shop, store: Store, progress: Progress) -> AbstractContextManager[IngestEngine]:
    """Open the engine that the spec names. It is closed at the end, whatever happens.

    Parameters
    ----------
    shop
        The shop's spec.
    store
        The store of the snapshot.
    progress
        Takes a line when the engine has to wait.
    """
    if shop.events.engine == "spark":
        from endcap.events.spark_ingest import open_spark_engine

        return open_spark_engine(shop, store, progress)
    return nullcontext(LocalEngine())
