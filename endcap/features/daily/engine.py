"""The engine that makes a dataset out of coded days, on one machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from endcap.events.snapshot_days import DayPart, SnapshotDays
from endcap.features.daily.assembly import CodedLog, assemble
from endcap.features.daily.coding import CodingSettings, Cut
from endcap.features.daily.kept_days import KeptDays, describe_reuse
from endcap.features.disk_errors import make_disk_error
from endcap.features.nothing_left import WindowCounts, build_empty_snapshot_error, build_nothing_left_error
from endcap.features.split import MILLISECOND
from endcap.spark.tasks import Work
from endcap.spec.settings import FeatureSettings
from endcap.store import Draft, Store

Json = dict[str, Any]
Progress = Callable[[str], None]
DAY = 86_400_000


@dataclass(frozen=True)
class DailyEngine:
    """Makes datasets of snapshots, see `endcap.features.feature_engine.FeatureEngine`. The store keeps coded days."""

    store: Store

    def run(self, work: Work, piece: Any) -> None:
        """See `FeatureEngine`."""
        work(piece)

    def write_dataset(
        self, settings: FeatureSettings, snapshot: SnapshotDays, draft: Draft, end: int | None, progress: Progress
    ) -> Json:
        """See `FeatureEngine`. The facts also say which days were kept: `reuse`."""
        out = draft.path
        moments = [(day.first, day.last) for day in snapshot.days if day.first is not None and day.last is not None]
        if not moments:
            raise build_empty_snapshot_error(settings, snapshot.path.name)
        end = max(last for _, last in moments) + 1 if end is None else end
        begin = None if settings.window is None else end - settings.window // MILLISECOND
        coding = CodingSettings.of(settings)
        needed = [day for day in snapshot.days if _is_needed(day, begin, end, coding)]
        progress("reading days and making sessions")
        days, reuse = KeptDays(self.store, settings.name, coding).code([(day, _cut(day, begin, end)) for day in needed])
        progress(describe_reuse(reuse))
        rows_elsewhere = sum(day.events - day.test for day in snapshot.days) - sum(
            day.events - day.test for day in needed
        )
        rows = rows_elsewhere + sum(day.training for day in days)
        unnamed = "without_customer" if settings.sessions.by == "gap" else "without_session"
        dropped = {
            "outside_window": rows - sum(day.inside for day in days),
            unnamed: sum(day.unnamed for day in days),
        }
        window = WindowCounts(begin, end, rows, dropped)
        named = any(day.events > day.without_customer for day in snapshot.days)
        try:
            facts = assemble(
                CodedLog(days, [_get_bounds(day) for day in needed], snapshot.path, named), settings, out, progress
            )
        except OSError as error:
            raise make_disk_error(out, error) from error
        if not facts["events"]:
            raise build_nothing_left_error(settings, window, facts["dropped"])
        return {
            "from": begin,
            "until": end,
            **facts,
            "dropped": {**dropped, **facts["dropped"]},
            "reuse": reuse,
        }


def _is_needed(day: DayPart, begin: int | None, end: int, coding: CodingSettings) -> bool:
    """Tell whether a day gives more to a dataset than the number of its rows."""
    if coding.types is not None or coding.owned is not None or day.first is None or day.last is None:
        return True
    return day.first < end and (begin is None or day.last >= begin or day.test > 0)


def _cut(day: DayPart, begin: int | None, end: int) -> Cut:
    """Cut a day where the window begins or ends among its events. A day that lies outside is cut at its first or behind
    its last event, so that it is the same wherever the window lies."""
    if day.first is None or day.last is None:
        return Cut(None, None, _get_bounds(day))
    return Cut(
        begin=None if begin is None or begin <= day.first else min(begin, day.last + 1),
        end=None if end > day.last else max(end, day.first),
        day=_get_bounds(day),
    )


def _get_bounds(day: DayPart) -> tuple[int, int]:
    begin = int(datetime.fromisoformat(day.day).replace(tzinfo=UTC).timestamp()) * 1000
    return begin, begin + DAY
