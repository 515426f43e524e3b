"""The coding of a day: rows of a snapshot to narrow integers in groups. It depends on the day alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from endcap.features.daily.arrays import CodedTexts, Flags, Ints, count_offsets, find_first, sort_stably
from endcap.features.daily.coded_day import CodedDay, CodedOwned, CodedPart
from endcap.features.daily.day_rows import DayRows, read_day_rows, read_texts
from endcap.features.daily.grouping import Activity, group_by_gap, group_by_session
from endcap.features.event_features import KINDS
from endcap.features.split import MILLISECOND
from endcap.spec.settings import FeatureSettings

Json = dict[str, Any]
_EMPTY_TEXTS = CodedTexts(np.zeros(0, np.int32), pa.array([], pa.string()))


class DayFiles(Protocol):
    """What coding needs of a snapshot's day: `files` of its events and `activity`, in order, and rows of `test`."""

    @property
    def files(self) -> Sequence[Path]: ...
    @property
    def activity(self) -> Sequence[Path]: ...
    @property
    def test(self) -> int: ...


@dataclass(frozen=True)
class CodingSettings:
    """What coding reads of a shop's settings.

    gap: ms, None where sessions are given. types: of which sessions are made, where the snapshot has others; else None.
    owned: types that make an item a customer's. feature_types: those that a feature distinguishes; an event's number is
    1 + its type's place, 0 where it is none of them.
    """

    gap: int | None
    types: list[str] | None
    owned: list[str] | None
    feature_types: list[str] | None

    @classmethod
    def of(cls, settings: FeatureSettings) -> CodingSettings:
        """Take them from the settings of the step."""
        typed = next((f.types or [] for f in settings.features.events if KINDS[f.kind].needs_type), None)
        return cls(
            settings.sessions.gap // MILLISECOND if settings.sessions.by == "gap" else None,
            settings.types if settings.kept_types != settings.types else None,
            settings.owned,
            typed,
        )

    def key(self) -> Json:
        """Return all of them, as JSON."""
        return vars(self).copy()


@dataclass(frozen=True)
class Cut:
    """Training events of [begin, end) count, and test events before the end: epoch ms, None for no cut. day: the day's
    first moment and that of the next."""

    begin: int | None
    end: int | None
    day: tuple[int, int]


def code_day(day: DayFiles, cut: Cut, settings: CodingSettings) -> CodedDay:
    """Code the rows of a day."""
    rows = _read(day, settings)
    of_types = _mark_types(rows, settings.types)
    test = _mark_test(rows.part, len(rows))
    before = np.ones(len(rows), np.bool_) if cut.end is None else rows.time < cut.end
    begun = np.ones(len(rows), np.bool_) if cut.begin is None else rows.time >= cut.begin
    inside = of_types & before & begun & ~test
    named = (rows.customer if rows.session is None else rows.session).codes >= 0
    activity = _read_activity(day, settings, rows)
    return CodedDay(
        training=int((of_types & ~test).sum()),
        inside=int(inside.sum()),
        unnamed=int((inside & ~named).sum()),
        train=_code_part(rows.take(inside & named), activity[0], cut, settings),
        test=_code_part(rows.take(of_types & before & test & named), activity[1], cut, settings),
        owned=None if settings.owned is None else _code_owned(rows, before, settings.owned),
    )


def _read(day: DayFiles, settings: CodingSettings) -> DayRows:
    texts = ["item", "customer"]
    texts += ["session"] if settings.gap is None else []
    texts += ["type"] if (settings.types or settings.owned or settings.feature_types) is not None else []
    texts += ["part"] if day.test else []
    if not day.files:
        return DayRows(np.zeros(0, np.int64), **dict.fromkeys(texts, _EMPTY_TEXTS))
    return read_day_rows(day.files, texts)


def _mark_types(rows: DayRows, types: list[str] | None) -> Flags:
    return np.ones(len(rows), np.bool_) if types is None or rows.type is None else rows.type.mark(types)


def _mark_test(part: CodedTexts | None, rows: int) -> Flags:
    return np.zeros(rows, np.bool_) if part is None else part.mark(["test"])


def _read_activity(day: DayFiles, settings: CodingSettings, rows: DayRows) -> tuple[list[Activity], list[Activity]]:
    """Read what customers did beside the events that sessions are made of, by part: of the day's own files, and events
    of types that only make an item a customer's.

    It is not cut: before the first event and behind the last one it holds nothing together.
    """
    if settings.gap is None:
        return [], []
    moments: list[tuple[Activity, Flags]] = []
    if day.activity:
        table = read_texts(day.activity, ["customer", "time", "part"], ["customer", "part"])
        known = Activity(CodedTexts.of(table["customer"]), table["time"].to_numpy())
        moments.append((known, CodedTexts.of(table["part"]).mark(["test"])))
    if settings.types is not None and rows.type is not None:
        of_other_types = ~rows.type.mark(settings.types) & (rows.type.codes >= 0) & (rows.customer.codes >= 0)
        moments.append(
            (
                Activity(rows.customer.take(of_other_types), rows.time[of_other_types]),
                _mark_test(rows.part, len(rows))[of_other_types],
            )
        )
    train, test = [], []
    for activity, is_test in moments:
        train.append(activity.take(~is_test))
        test.append(activity.take(is_test))
    return train, test


def _code_part(rows: DayRows, activity: list[Activity], cut: Cut, settings: CodingSettings) -> CodedPart:
    base = int(rows.time[0]) if len(rows) else 0
    if rows.session is not None:
        groups = group_by_session(rows.session, rows.customer, rows.time)
    else:
        groups = group_by_gap(rows.customer, rows.time, activity, settings.gap or 0, cut.day)
    order = sort_stably(groups.of_event)
    items = rows.item.compact()
    first = find_first(items.codes, len(items.ids))
    time = (rows.time - base).astype(np.int32)
    return CodedPart(
        base=base,
        items=items.ids,
        customers=groups.customers,
        item_events=np.bincount(items.codes, minlength=len(items.ids)).astype(np.int32),
        item_first=time[first],
        customer=groups.customer,
        offsets=count_offsets(groups.of_event, len(groups.customer)).astype(np.int32),
        item=items.codes[order],
        time=time[order],
        ids=groups.ids,
        hashes=groups.hashes,
        first=groups.first,
        last=groups.last,
        type=_number_types(rows, settings.feature_types, order),
        rank=order.astype(np.uint32) if groups.share_sessions else None,
    )


def _number_types(rows: DayRows, types: list[str] | None, order: Ints) -> NDArray[np.int16] | None:
    if types is None or rows.type is None:
        return None
    place = {name: number for number, name in enumerate(types, 1)}
    numbers = np.array([*(place.get(name, 0) for name in rows.type.ids.to_pylist()), 0], np.int16)
    return numbers[rows.type.codes][order]


def _code_owned(rows: DayRows, before: Flags, types: list[str]) -> CodedOwned:
    assert rows.type is not None
    bought = rows.take(before & rows.type.mark(types) & (rows.customer.codes >= 0))
    items, customers = bought.item.compact(), bought.customer.compact()
    return CodedOwned(items.ids, customers.ids, items.codes, customers.codes, bought.time)
