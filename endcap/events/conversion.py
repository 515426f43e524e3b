"""Convert a published log to a standard one with the columns session, customer, item, time, type."""

from __future__ import annotations

import functools
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from endcap.errors import DataError
from endcap.events.event_mapping import list_event_columns, map_events
from endcap.sources.engine import open_engine
from endcap.sources.files import find_files
from endcap.sources.layouts import LOG_LAYOUTS, complete_source
from endcap.sources.load import Loader, Progress
from endcap.sources.quarantine import Quarantine
from endcap.spec.event_log import Events, EventSource
from endcap.spec.layouts import Layout
from endcap.spec.sessions import SessionsSpec
from endcap.spec.shop import Shop
from endcap.spec_renames import API_VERSION
from endcap.store import report_storage_errors

TEXT = pa.schema([(name, pa.string()) for name in ("session", "customer", "item", "time", "type")])
TYPED = TEXT.set(3, pa.field("time", pa.timestamp("ms", tz="UTC")))
WRITERS = {".csv": (pa.csv.CSVWriter, TEXT), ".parquet": (pq.ParquetWriter, TYPED)}


def convert(
    source: Path | str, layout: Layout, target: Path, *, progress: Progress = lambda line: None
) -> dict[str, int]:
    """Write a log of a published layout as CSV or Parquet.

    Parameters
    ----------
    source
        A file, a folder or a glob, here or in a bucket.
    layout
        The published layout.
    target
        The file to write. Its suffix names the format. Bad rows go to ``<target>.quarantine.jsonl``.
    progress
        Takes a line now and then.

    Returns
    -------
    dict
        The counts ``events``, ``bad_rows`` and ``left_out``.

    Raises
    ------
    DataError
        If the layout is unknown, or too many rows are bad.
    StorageError
        If the disk refuses. After an error the target stays as it was.

    Notes
    -----
    A shop reads the result with ``columns: {session: session, customer: customer, type: type}``. A layout without
    sessions needs ``sessions: {by: gap}``: its column of sessions is empty, and rows without a customer are left out.
    """
    if layout not in LOG_LAYOUTS:
        raise DataError(
            f"layout {layout!r} is not a published one; allowed: {', '.join(LOG_LAYOUTS)}",
            code="events.layout-unknown",
            found=layout,
            allowed=list(LOG_LAYOUTS),
        )
    if target.suffix not in WRITERS:
        raise DataError(
            f"{target}: its suffix tells no format; allowed: {', '.join(WRITERS)}",
            code="events.format-unknown",
            path=str(target),
            found=[target.name],
            allowed=list(WRITERS),
        )
    event_source = complete_source(EventSource(path=str(source), layout=layout))
    shop = Shop(
        apiVersion=API_VERSION,
        kind="Shop",
        name="conversion",
        events=Events(sources=[event_source]),
        sessions=SessionsSpec(by="given" if LOG_LAYOUTS[layout].session else "gap"),
    )
    source_files = find_files(event_source)
    partial, bad_rows = (target.with_name(target.name + suffix) for suffix in (".partial", ".quarantine.jsonl"))
    with report_storage_errors(target), ExitStack() as stack:
        target.parent.mkdir(parents=True, exist_ok=True)
        stack.callback(partial.unlink, missing_ok=True)
        spill = stack.enter_context(TemporaryDirectory(dir=target.parent, prefix=".spill-"))
        connection = stack.enter_context(open_engine(Path(spill), "UTC"))
        quarantine = stack.enter_context(Quarantine(bad_rows, shop.events.max_bad_share, shop.events.time))
        loader = Loader("events", connection, quarantine, progress)
        make_mapping = functools.partial(map_events, shop, event_source, now=int(time.time() * 1000))
        make_writer, schema = WRITERS[target.suffix]
        with make_writer(partial, schema) as writer:
            for table in loader.load(
                event_source, source_files.files, list_event_columns(shop, event_source), make_mapping, layout
            ):
                writer.write_table(_convert_rows(table, schema))
        quarantine.check("events", end=True)
        partial.replace(target)
    bad_count = quarantine.bad.get("events", Counter()).total()
    if not bad_count:
        bad_rows.unlink()
    excluded = quarantine.left_out.get("events", Counter()).total()
    return {"events": quarantine.rows["events"] - bad_count, "bad_rows": bad_count, "left_out": excluded}


def _convert_rows(table: pa.Table, schema: pa.Schema) -> pa.Table:
    times = table["time"].cast(pa.timestamp("ms"))
    if schema is TEXT:
        times = pc.binary_join_element_wise(pc.strftime(times, format="%Y-%m-%dT%H:%M:%S"), "Z", "")
    else:
        times = times.cast(pa.timestamp("ms", tz="UTC"))
    return table.set_column(table.schema.get_field_index("time"), "time", times).select(schema.names).cast(schema)
