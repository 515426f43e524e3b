"""What shoppers did after they saw a ranking: events and lines of orders, as one kind of row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from endcap.experiments.exposures import Columns, ExposureReader, hash_column, hash_text, read_milliseconds

_Keys = NDArray[np.uint64]
PURCHASE = "purchase"
"""The type that lines of orders have, as the intake gives it to them among the events."""


@dataclass(frozen=True)
class Outcomes(Columns):
    """Events that may count for a ranking, one row each.

    Attributes
    ----------
    id, kind, item
        uint64 [n]: hashes of the event's id, of its type and of its item; 0 for none.
    ranking, shopper
        uint64 [n]: hashes of the ranking id and of the shopper's pseudonym, as `Exposures` has them; 0 for none.
    time, received
        int64 [n]: when it happened, as the shop says, and when the intake took it: milliseconds since 1970, UTC.
    value
        float64 [n]: price times quantity of an order's line; 0 of other events.
    """

    id: _Keys
    kind: _Keys
    item: _Keys
    ranking: _Keys
    shopper: _Keys
    time: NDArray[np.int64]
    received: NDArray[np.int64]
    value: NDArray[np.float64]

    def keep_first_reports(self) -> Self:
        """Return each event once, as it was reported first."""
        order = np.lexsort((self.received, self.id))
        return self.select(order[np.unique(self.id[order], return_index=True)[1]])


def read_outcomes(reader: ExposureReader, events: pa.Table | None, orders: pa.Table | None) -> Outcomes:
    """Read events and orders.

    Parameters
    ----------
    reader
        Reads ranking ids and names shoppers.
    events
        The columns `id`, `type`, `item`, `time`, `received`, and, where there are, `ranking_id`, `shopper` and `order`,
        as the intake writes them. A line of an order among them is passed over: `orders` has it with its price.
    orders
        A row for each line: `id`, `line`, `item`, `quantity`, `price`, `time`, `received`, `shopper`.

    Returns
    -------
    Outcomes
        Rows that name neither a ranking nor a shopper are left out: nobody met them.
    """
    parts = []
    if events is not None and len(events):
        if "order" in events.column_names:
            events = events.filter(pc.is_null(events.column("order")))
        parts.append(_read(reader, events, hash_column(events, "id"), hash_column(events, "type"), _no_value(events)))
    if orders is not None and len(orders):
        lines = pc.binary_join_element_wise(orders.column("id"), orders.column("line").cast(pa.string()), "#")
        ids = hash_column(pa.table({"id": lines}), "id")
        quantity = pc.fill_null(orders.column("quantity").cast(pa.float64()), 1.0)
        value = pc.multiply(pc.fill_null(orders.column("price"), 0.0), quantity).to_numpy()
        parts.append(_read(reader, orders, ids, np.full(len(orders), hash_text(PURCHASE), np.uint64), value))
    empty = Outcomes(*(np.zeros(0, kind) for kind in (*[np.uint64] * 5, np.int64, np.int64, np.float64)))
    for part in parts:
        empty = empty.join(part)
    return empty.select((empty.ranking != 0) | (empty.shopper != 0))


def _read(reader: ExposureReader, table: pa.Table, ids: _Keys, kinds: _Keys, value: NDArray[np.float64]) -> Outcomes:
    return Outcomes(
        id=ids,
        kind=kinds,
        item=hash_column(table, "item"),
        ranking=hash_column(table, "ranking_id"),
        shopper=reader.find_shoppers(table),
        time=read_milliseconds(table, "time"),
        received=read_milliseconds(table, "received"),
        value=value,
    )


def _no_value(table: pa.Table) -> NDArray[np.float64]:
    return np.zeros(len(table))
