"""Convert local times to instants across a zone's clock changes."""

from __future__ import annotations

import functools
from collections import OrderedDict
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from endcap.sources.values.times import LOCAL
from endcap.spec.base import EARLIEST_MS

Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]
OWNERS = 1_000_000
"""The most owners whose last time within a repeated hour is remembered. The least recent is forgotten first."""
_DAY = 86_400
_NEVER = np.iinfo(np.int64).max
_UTC = ("UTC", "Etc/UTC", "GMT", "Etc/GMT")


def has_clock_changes(zone: str) -> bool:
    """Return whether local times of the zone differ from UTC."""
    return zone not in _UTC


def make_clock(zone: str) -> LocalClock | None:
    """Return the zone's clock. None: local times are UTC."""
    return LocalClock(zone) if has_clock_changes(zone) else None


class LocalClock:
    """Converts local times of a zone to instants, and counts doubtful ones.

    A local time that the clock skips moves on by as much as the clock did. A local time that occurs twice means its
    first occurrence, unless the owner's previous such time in the file would then be later: the second occurrence has
    begun. In a file with falling times it is the other way round. An owner is a customer, or a session without one.
    """

    def __init__(self, zone: str) -> None:
        self._zone = ZoneInfo(zone)
        self.ambiguous = self.shifted = 0
        """The numbers of local times so far that occur twice, and that do not exist."""
        self.begin_file()

    def begin_file(self) -> None:
        """Forget the order of times so far."""
        self._last: OrderedDict[Any, int] = OrderedDict()
        # Steps up less steps down: of owners with such times near by, and from row to row.
        self._owners_rise = self._rows_rise = 0

    def convert(self, rows: pa.Table, time: str, clock_column: str = "") -> pa.Table:
        """Convert the local times in the column `time` to instants, and drop the column `LOCAL`.

        clock_column: the column that the clock showed, if that is not `time` itself but its day.
        """
        rows_local = np.flatnonzero(pc.fill_null(rows.column(LOCAL), False).to_numpy())
        rows = rows.drop_columns([LOCAL])
        if not len(rows_local):
            return rows
        local = rows.column(clock_column or time).to_numpy()[rows_local]
        ends, widths, offsets = self._changes
        change = np.searchsorted(ends, local, side="right")
        instants = local - offsets[change]
        doubtful = ends[change] - local <= np.abs(widths[change])
        repeated = doubtful & (widths[change] < 0)
        self.ambiguous += int(repeated.sum())
        self.shifted += int((doubtful & ~repeated).sum())
        self._rows_rise += _count_rises(local, repeated)
        if repeated.any():
            owners = _list_owners(rows)
            if owners is not None:
                self._keep_order(local, instants, change, repeated, owners.take(pa.array(rows_local)))
        times = rows.column(time).to_numpy().copy()
        times[rows_local] += instants - local
        return rows.set_column(rows.schema.get_field_index(time), time, pa.array(times))

    def _keep_order(self, local: Ints, instants: Ints, change: Ints, repeated: Mask, owners: pa.Array) -> None:
        """Move those of the ambiguous `instants` that are of the second hour."""
        codes = owners.dictionary_encode().indices.to_numpy()
        order = np.argsort(codes, kind="stable")
        self._owners_rise += _count_rises(local[order], repeated[order], codes[order])
        falling = (self._owners_rise or self._rows_rise) < 0
        places = np.flatnonzero(repeated)
        changes, firsts = change[places].tolist(), instants[places].tolist()
        seconds = (instants[places] - self._changes[1][change[places]]).tolist()
        resolved = []
        for owner, number, first, second in zip(
            owners.take(pa.array(places)).to_pylist(), changes, firsts, seconds, strict=True
        ):
            key = owner, number
            last = self._last.pop(key, None)
            if falling:
                moment = second if last is None or second <= last else first
            else:
                moment = first if last is None or first >= last else second
            self._last[key] = moment
            resolved.append(moment)
            if len(self._last) > OWNERS:
                self._last.popitem(last=False)
        instants[places] = resolved

    @functools.cached_property
    def _changes(self) -> tuple[Ints, Ints, Ints]:
        """The clock's changes, ascending, in ms.

        For each the local time at which the doubtful ones end, and how far the clock went on (below 0: back); then the
        offset before each, and after the last.
        """
        moment, end = EARLIEST_MS // 1000 - 2 * _DAY, int(datetime.now(UTC).timestamp()) + 2 * _DAY
        offsets = [self._offset(moment)]
        ends, widths = [], []
        while moment < end:
            if self._offset(moment + _DAY) != offsets[-1]:
                change = self._first_after(moment, offsets[-1])
                after = self._offset(change)
                ends.append(change + max(offsets[-1], after))
                widths.append(after - offsets[-1])
                offsets.append(after)
                moment = change
            else:
                moment += _DAY
        scaled = (1000 * np.array(seconds, np.int64) for seconds in (ends, widths, offsets))
        moments, steps, before = scaled
        return np.append(moments, _NEVER), np.append(steps, 0), before

    def _first_after(self, moment: int, offset: int) -> int:
        """The second of the day after `moment` at which the zone has another offset."""
        low, high = moment, moment + _DAY
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._offset(middle) == offset else (low, middle)
        return high

    def _offset(self, moment: int) -> int:
        """The zone's offset at an epoch second, in seconds."""
        offset = datetime.fromtimestamp(moment, self._zone).utcoffset()
        assert offset is not None
        return offset.days * _DAY + offset.seconds


def _count_rises(local: Ints, repeated: Mask, codes: Any = None) -> int:
    """Steps up less steps down between neighbours, of one code; those within a repeated hour tell nothing.

    Nor do those of more than a day: they are from one part of a file to another.
    """
    steps = np.diff(local)
    telling = (np.abs(steps) <= _DAY * 1000) & ~(repeated[1:] & repeated[:-1])
    if codes is not None:
        telling &= codes[1:] == codes[:-1]
    return int(np.sign(steps[telling]).sum())


def _list_owners(rows: pa.Table) -> pa.Array | None:
    """A text for the owner of each row: the customer, else the session; None where rows have no owner."""
    if "customer" not in rows.schema.names or "session" not in rows.schema.names:
        return None
    customer, session = (
        pc.binary_join_element_wise(prefix, rows.column(name), "")
        for prefix, name in (("c", "customer"), ("s", "session"))
    )
    return pc.coalesce(customer, session).combine_chunks()
