"""Errors that explain why a snapshot, a window or filters leave no event to make a dataset of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from endcap.errors import DataError
from endcap.features.split import MILLISECOND
from endcap.spec.base import format_duration
from endcap.spec.sessions import Filters
from endcap.spec.settings import FeatureSettings

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class WindowExtent(Protocol):
    """Where a window lies, and what it leaves out: see `endcap.features.window.Window`."""

    @property
    def start(self) -> int | None: ...
    @property
    def end(self) -> int: ...
    @property
    def rows(self) -> int: ...
    @property
    def dropped(self) -> Mapping[str, int]: ...


@dataclass(frozen=True)
class WindowCounts:
    """A window as numbers alone; see `WindowExtent`."""

    start: int | None
    end: int
    rows: int
    dropped: Mapping[str, int]


def build_empty_snapshot_error(settings: FeatureSettings, snapshot: str) -> DataError:
    """Build the error that says that a snapshot holds no events."""
    return DataError(
        f"the snapshot {snapshot} of shop {settings.name!r} holds no events; ingest some first",
        code="features.snapshot-empty",
        snapshot=snapshot,
        shop=settings.name,
    )


def build_nothing_left_error(settings: FeatureSettings, window: WindowExtent, filtered: Mapping[str, int]) -> DataError:
    """Build the error that says what took every event. `filtered` has the events that fell to each filter."""
    reasons = {
        "outside_window": f"lie outside the window ({_describe_span(window)}): widen `window`, or choose another date",
        "without_customer": "name no customer, which `sessions: {by: gap}` needs",
        "without_session": "name no session, which `sessions: {by: given}` needs",
    }
    for name in Filters.model_fields:
        reasons[name] = f"fell to filters.{name}: {getattr(settings.filters, name)}"
    counts = {**window.dropped, **filtered}
    losses = "; ".join(f"{count:,} {reasons[name]}" for name, count in counts.items() if count)
    return DataError(
        f"shop {settings.name!r}: none of {window.rows:,} training events is left. {losses or 'There were none'}",
        code="features.none-left",
        shop=settings.name,
        rows=window.rows,
        dropped={name: count for name, count in counts.items() if count},
        window=None if settings.window is None else format_duration(settings.window),
        filters=settings.filters.model_dump(mode="json"),
    )


def _describe_span(window: WindowExtent) -> str:
    start, end = (
        None if moment is None else (EPOCH + moment * MILLISECOND).isoformat(timespec="seconds")
        for moment in (window.start, window.end)
    )
    if window.start is None:
        return f"before {end}"
    return f"{format_duration((window.end - window.start) * MILLISECOND)}, from {start} to before {end}"
