"""The files that services of the shop write: the intake's events, impressions and orders, and request samples.

A file is replaced in one step by one without the customer's rows, so readers and a kill see either.
"""

from __future__ import annotations

import io
from collections.abc import Collection

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from endcap.errors import IntegrityError
from endcap.samples.erasure import count_shoppers, erase_shoppers, list_recommenders
from endcap.samples.places import open_place

KINDS = ("events", "impressions", "orders")
"""The intake's kinds of files, each in a folder of its own."""
_CUSTOMER = "customer"


def forget_intake_files(address: str, customers: Collection[str], *, erase: bool = True) -> int:
    """Take the rows of customers out of the intake's files.

    Parameters
    ----------
    address
        The folder, or ``s3://bucket/prefix``, that the intake seals its files to.
    customers
        Ids as the files have them.
    erase
        Whether to replace files; otherwise rows are only counted.

    Returns
    -------
    int
        The number of rows.

    Raises
    ------
    IntegrityError
        A file is no Parquet file (``forgetting.file-damaged``). It may hold the customers.
    UserError, StorageError, TransientError
        The address is neither, or the place refuses.
    """
    place, values = open_place(address), pa.array(sorted(customers), pa.string())
    total = 0
    for name in (name for kind in KINDS for name in place.list(f"{kind}/") if name.endswith(".parquet")):
        content = place.read(name)
        if content is None:  # removed meanwhile
            continue
        try:
            table = pq.read_table(io.BytesIO(content))
        except pa.ArrowInvalid as error:
            raise IntegrityError(
                f"{address}/{name} cannot be read ({error}), and may hold the customer; remove it, or bring it back",
                code="forgetting.file-damaged",
                address=address,
                file=name,
            ) from None
        if _CUSTOMER not in table.column_names:
            continue
        is_theirs = pc.is_in(table[_CUSTOMER], value_set=values)
        count = pc.sum(is_theirs).as_py() or 0
        total += count
        if erase and count:
            sink = io.BytesIO()
            pq.write_table(table.filter(pc.invert(is_theirs)), sink, compression="zstd")
            place.write(name, sink.getvalue())
    return total


def forget_samples(
    address: str, recommenders: Collection[str], customers: Collection[str], *, erase: bool = True
) -> int:
    """Take the request samples of customers out of a place. Errors are those of `endcap.samples.erasure`.

    Parameters
    ----------
    address
        The place of the samples.
    recommenders
        The recommenders of the shop.
    customers
        Pseudonyms, by each key that samples were written with.
    erase
        Whether to replace files; otherwise samples are only counted.

    Returns
    -------
    int
        The number of samples.
    """
    place = open_place(address)
    visit = erase_shoppers if erase else count_shoppers
    return sum(visit(place, name, customers) for name in list_recommenders(place) if name in recommenders)
