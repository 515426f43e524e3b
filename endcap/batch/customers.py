"""The customers of a dataset that get lists."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from endcap.batch.histories import find_last_events
from endcap.errors import DataError
from endcap.events.forget_list import ForgetList, read_forget_list
from endcap.features.dataset_files import read_customer_ids
from endcap.pseudonyms import require_pseudonymiser
from endcap.sources.files import SourceFile, find_files
from endcap.sources.formats.read import read_rows
from endcap.sources.formats.rows import reject_marked
from endcap.sources.pseudonymised_rows import map_ids
from endcap.spec.base import format_duration
from endcap.spec.batch import BatchSpec
from endcap.spec.source import SourceSpec
from endcap.store import Store, fingerprint, get_content_key

COLUMN = "customer"
_SHOWN, _TOLD = 10, 1000
_NEVER = np.iinfo(np.int64).min


@dataclass(frozen=True)
class CustomerSelection:
    """Selected customers.

    Attributes
    ----------
    customers
        int32 [c]: by their number in the dataset, ascending.
    ids
        Strings: ids of all the dataset's customers, by number.
    fingerprint
        Of the selection.
    warnings
        Lines to show.
    facts
        To be stored with the lists.
    """

    customers: NDArray[np.int32]
    ids: pa.Array
    fingerprint: str
    warnings: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)


def select_customers(batch: BatchSpec, dataset: str, store: Store, file: str | None = None) -> CustomerSelection:
    """Select the customers that a file names, else those who were active, else all that have an event.

    With a file, `batch.active_within` does not count. Customers of the file that the dataset lacks are warned of, and
    the rest goes on. If the dataset has pseudonyms, the file may have these or the ids.
    Customers who are forgotten are left out without a word.

    Raises
    ------
    DataError
        If nobody is left, or if the file cannot be read.
    UserError
        If the dataset has pseudonyms, and this process does not have their key.
    """
    folder = store.fetch(dataset)
    ids = read_customer_ids(folder)
    if not len(ids):
        raise DataError(
            f"{dataset} names no customers, so no lists can be made. Name their column in the shop's "
            "events.columns.customer",
            code="batch.no-customers",
            dataset=dataset,
        )
    key_id = store.manifest(dataset)["facts"].get("pseudonyms")
    if file is not None:
        shop = get_content_key(dataset).split("/")[1]
        return _select_named(file, ids, key_id, read_forget_list(store, shop))
    last = find_last_events(folder, len(ids))
    since = _NEVER + 1
    if batch.active_within is not None:
        until = int(store.manifest(dataset)["facts"]["until"])
        since = until - batch.active_within // timedelta(milliseconds=1)
    customers = np.flatnonzero(last >= since).astype(np.int32)
    if not len(customers):
        raise _build_nobody_error(batch, since)
    active = None if batch.active_within is None else format_duration(batch.active_within)
    return CustomerSelection(customers, ids, fingerprint("active", active), facts={"active": active})


def _build_nobody_error(batch: BatchSpec, since: int) -> DataError:
    if batch.active_within is None:
        return DataError(
            "none of the dataset's customers has an event; look at the shop's filters, or bring a longer log",
            code="batch.nobody-active",
            active=None,
            since=None,
        )
    moment = datetime.fromtimestamp(since / 1000, UTC).isoformat(timespec="seconds")
    active = format_duration(batch.active_within)
    return DataError(
        f"batch.active_within: {active}: nobody had an event since {moment}; give a longer time, or newer events",
        code="batch.nobody-active",
        active=active,
        since=moment,
    )


def _select_named(file: str, ids: pa.Array, key_id: str | None, forgotten: ForgetList) -> CustomerSelection:
    names = pa.concat_arrays([_read_column(source_file) for source_file in find_files(SourceSpec(path=file)).files])
    if key_id is not None:
        names = map_ids(require_pseudonymiser("the dataset has pseudonyms", key_id), names)
    names = pc.unique(names)
    if forgotten:  # no warning and no fact may name them
        names = names.filter(pa.array([name is None or not forgotten.covers(name) for name in names.to_pylist()]))
    numbers = pc.index_in(names, value_set=ids)
    known = np.sort(numbers.drop_null().to_numpy(zero_copy_only=False)).astype(np.int32)
    unknown = sorted(names.filter(pc.is_null(numbers)).drop_null().to_pylist())
    warnings = []
    if unknown:
        shown = ", ".join(unknown[:_SHOWN]) + (", …" if len(unknown) > _SHOWN else "")
        warnings.append(f"warning: {len(unknown):,} customers of {file} are not in the dataset: {shown}")
    if not len(known):
        raise DataError(
            f"{file}: none of its {len(names):,} customers is in the dataset; give ids as the log has them",
            code="batch.customers-unknown",
            path=file,
            count=len(names),
            found=unknown[:_SHOWN],
        )
    facts = {"unknown": {"count": len(unknown), "customers": unknown[:_TOLD]}}
    return CustomerSelection(known, ids, fingerprint("named", ids.take(pa.array(known)).to_pylist()), warnings, facts)


def _read_column(file: SourceFile) -> pa.Array:
    """Return a file's customers, as text."""
    import duckdb

    with duckdb.connect() as connection:
        rows = read_rows(file, SourceSpec(path=file.name), [COLUMN], connection)
        names = [] if rows is None else list(rows.names)
        if COLUMN not in names:
            columns = ", ".join(names) or "none"
            raise DataError(
                f"{file.name}: no column {COLUMN!r}; there are: {columns}. Name the column of ids so",
                code="batch.column-missing",
                path=file.name,
                column=COLUMN,
                found=names,
            )
        assert rows is not None
        batches = [reject_marked(batch, [names.index(COLUMN)]) for batch in rows.batches]
    if rejects := [reject for batch in batches for reject in batch.rejects]:
        first = rejects[0]
        raise DataError(
            f"{file.name}, line {first.line}: {first.reason}",
            code="batch.row-malformed",
            path=file.name,
            line=first.line,
            reason=first.reason,
        )
    chunks = [
        chunk for batch in batches if len(batch.lines) for chunk in batch.table.column(names.index(COLUMN)).chunks
    ]
    return pa.chunked_array(chunks, pa.string()).combine_chunks()
