"""The sessions of several days in their final order, with their ids; and their file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from endcap.features.daily.arrays import Codes, Ints, find_ties, sort_by_texts, view_text
from endcap.features.daily.coded_day import CodedPart
from endcap.features.daily.grouping import take_names
from endcap.features.daily.sessions_of_days import DaySessions, take_ids

BLOCK = 1 << 17
"""Sessions whose ids are in memory at once."""
_ESCAPED = b"\\|"


@dataclass(frozen=True)
class SessionNames:
    """What names sessions: the days' groups, and all customers' ids.

    gap: whether a session is named by its customer and its first event, as in `c7@1717236000000`. named: whether
    customers may share an id of sessions. begun: when each session began before the filters.
    """

    parts: Sequence[CodedPart]
    edges: Ints
    customers: pa.Array
    customer: Codes
    begun: Ints
    gap: bool
    named: bool

    def list_ids(self, groups: Ints) -> pa.Array:
        """List the ids of sessions in the log."""
        if self.gap:
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
        if not self.named or self.gap:
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
    starts = sessions.start[placed]
    order = np.insert(placed, np.searchsorted(starts, sessions.start[moving]), moving)
    tied, runs = find_ties(sessions.start[order])
    unsure = np.zeros(int(runs[-1]) + 1 if len(runs) else 0, np.bool_)
    unsure[runs[displaced[order]]] = True
    places = np.flatnonzero(tied & unsure[runs])
    if len(places):
        groups = order[places]
        texts = [names.list_ids(groups), *([names.list_owners(groups)] if names.named and not names.gap else [])]
        order[places] = groups[sort_by_texts(runs[places], texts)]
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
