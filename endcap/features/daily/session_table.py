"""The sessions of several days in their final order, with their ids; and their file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from endcap.features.daily.arrays import Codes, Ints, list_ranges, sort_by_texts, view_text
from endcap.features.daily.coded_day import CodedPart
from endcap.features.daily.grouping import take_names
from endcap.features.daily.sessions_of_days import DaySessions, take_ids

BLOCK = 1 << 17
"""Sessions whose ids are in memory at once."""
_ESCAPED = b"\\|"


@dataclass(frozen=True)
class SessionNames:
    """What names sessions: the days' groups, and all customers' ids.

    begun: when each session began before the filters, where it is named by its customer and its first event, as in
    `c7@1717236000000`; None where the log gives ids. named: whether customers may share an id of sessions.
    """

    parts: Sequence[CodedPart]
    edges: Ints
    customers: pa.Array
    customer: Codes
    begun: Ints | None
    named: bool

    def list_ids(self, groups: Ints) -> pa.Array:
        """List the ids of sessions in the log."""
        if self.begun is not None:
            begun = pa.array(self.begun[groups]).cast(pa.string())
            return pc.binary_join_element_wise(self.customers.take(pa.array(self.customer[groups])), begun, "@")
        order = np.argsort(groups, kind="stable")
        ids = take_ids(self.parts, self.edges, groups[order]).combine_chunks()
        places = np.empty(len(order), dtype=np.int64)
        places[order] = np.arange(len(order))
        return ids.take(pa.array(places))

    def list_owners(self, groups: Ints) -> pa.Array:
        """List the ids of sessions' customers; an empty text for nobody."""
        return take_names(self.customers, self.customer[groups])

    def list_final_ids(self, groups: Ints) -> pa.Array:
        """List the ids of sessions in the dataset. If customers may share an id, `make_session_id` of
        `endcap.online.key_names` makes the same ones."""
        ids = self.list_ids(groups)
        if not self.named or self.begun is not None:
            return ids
        return pc.binary_join_element_wise(_escape(self.list_owners(groups)), _escape(ids), "|")


def order_sessions(sessions: DaySessions, moved: Ints, names: SessionNames) -> Ints:
    """Return the groups at which sessions stand, in the order of start, id and customer.

    Notes
    -----
    A day's groups are in this order already. Only sessions of several groups and those that lost events to filters
    (`moved`) have to be put in their places. Where such a session starts together with others, ids decide.
    """
    live = sessions.events > 0
    displaced = np.zeros(len(live), np.bool_)
    displaced[sessions.joined] = True
    displaced[moved] = True
    placed, moving = np.flatnonzero(live & ~displaced), np.flatnonzero(live & displaced)
    moving = moving[np.argsort(sessions.start[moving], kind="stable")]
    starts, begun = sessions.start[placed], sessions.start[moving]
    before = np.searchsorted(starts, begun)
    order = np.insert(placed, before, moving)
    values, first, counts = np.unique(begun, return_index=True, return_counts=True)
    lengths = np.searchsorted(starts, values, "right") - before[first] + counts  # of the runs that start together
    tied = lengths > 1
    places = list_ranges((before[first] + first)[tied], lengths[tied])
    if len(places):
        groups, runs = order[places], np.repeat(values[tied], lengths[tied])
        texts = [names.list_ids(groups), *([names.list_owners(groups)] if names.named and names.begun is None else [])]
        order[places] = groups[sort_by_texts(runs, texts)]
    return order


def list_session_blocks(sessions: DaySessions, order: Ints, names: SessionNames, numbers: Codes) -> Iterator[pa.Table]:
    """List the rows of a part's sessions in blocks. numbers: of each customer, -1 last, for nobody."""
    for begin in range(0, max(1, len(order)), BLOCK):
        groups = order[begin : begin + BLOCK]
        yield pa.table(
            {
                "session": np.arange(begin, begin + len(groups)),
                "id": names.list_final_ids(groups),
                "customer": numbers[sessions.customer[groups]],
                "start": sessions.start[groups],
                "end": sessions.end[groups],
                "events": sessions.events[groups],
            }
        )


def _escape(ids: pa.Array) -> pa.Array:
    _, data = view_text(ids)
    if not any((data == mark).any() for mark in _ESCAPED):
        return ids
    return pc.replace_substring(pc.replace_substring(ids, "\\", "\\\\"), "|", "\\|")
