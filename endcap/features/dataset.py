"""From a snapshot to an immutable dataset version, which all recommenders of a shop share."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

from endcap.errors import Problem, SpecError
from endcap.events.snapshot_days import open_snapshot
from endcap.features.feature_engine import open_feature_engine, reads_here
from endcap.features.split import MILLISECOND
from endcap.features.window import to_milliseconds
from endcap.sources.pandas_import import defer_pandas
from endcap.spark.tasks import Work
from endcap.spec.settings import FeatureSettings
from endcap.spec.shop import Shop
from endcap.steps import STEPS
from endcap.store import Store, fingerprint, fingerprint_code, get_content_key

Progress = Callable[[str], None]
RESERVED = {
    "features.events": {"session", "item", "customer", "time"},
    "items": {"events", "first_seen"},
    "customers": {"events"},
}


def build(
    shop: Shop,
    snapshot: str,
    store: Store,
    *,
    until: datetime | None = None,
    progress: Progress = lambda line: None,
    then: Work | None = None,
) -> str:
    """Make the dataset of a snapshot, or find it.

    Events outside the window are cut first, and sessions are made of what is left. Events of `part: test` become
    sessions of their own; neither filters nor the window's start apply to them. What customers own under the shop's
    rule comes from all events before `until`, however long ago.

    Parameters
    ----------
    shop
        The spec.
    snapshot
        Address of the snapshot.
    store
        Where both lie.
    until
        The logical date, UTC if it names no zone. Events before it count, if they are not older than the shop's window.
        None: just after the snapshot's last event.
    progress
        Takes a line at a time.
    then
        Work that reads the snapshot and the new dataset, whose addresses it is given. It is done where the engine reads
        them, if that is not on this machine; else the caller does it.

    Returns
    -------
    str
        The dataset's address.

    Raises
    ------
    DataError
        If no events are left.
    SpecError
        If columns of the shop have reserved names.
    """
    defer_pandas()
    _refuse_reserved_names(shop)
    settings = FeatureSettings.of(shop)
    kind = STEPS["features"].folder(settings.name)
    end = None if until is None else to_milliseconds(until)
    key = make_key(settings, snapshot, end)
    with store.workspace(kind, key, progress) as work:
        address = store.find(kind, key)
        if address is not None:
            return address
        opened = open_snapshot(store, snapshot, fetches=reads_here(settings, store))
        opened.check_places()
        with (
            _open_spill_folder(work) as spill,
            open_feature_engine(settings, store, spill, progress) as engine,
        ):
            with store.publish(kind, key) as draft:
                facts = engine.write_dataset(settings, opened, draft, end, progress)
                draft.facts |= {
                    "snapshot": snapshot,
                    "shop": settings.name,
                    "event_types": settings.types,
                    "session_gap_ms": settings.sessions.gap // MILLISECOND if settings.sessions.by == "gap" else None,
                    "fingerprint": key,
                    "pseudonyms": opened.facts.get("pseudonyms"),
                    **facts,
                }
            if then is not None and not reads_here(settings, store):
                engine.run(then, (snapshot, draft.address))
    return draft.address


def make_key(settings: FeatureSettings, snapshot: str, end: int | None) -> str:
    """Return the key of the dataset that the code of now makes of a snapshot. end: epoch ms; None: all events."""
    return fingerprint(get_content_key(snapshot), settings.key(), end, fingerprint_code(STEPS["features"].entry))


@contextlib.contextmanager
def _open_spill_folder(work: Path) -> Iterator[Path]:
    """A folder for spilled tables, empty at first and removed at last: a later run cannot use what was spilled."""
    spill = work / "spill"
    shutil.rmtree(spill, ignore_errors=True)
    spill.mkdir()
    try:
        yield spill
    finally:
        shutil.rmtree(spill, ignore_errors=True)


def _refuse_reserved_names(shop: Shop) -> None:
    tables = {"items": shop.items, "customers": shop.customers}
    named = {key: [*table.categorical, *table.numeric] for key, table in tables.items() if table is not None}
    named["features.events"] = [feature.name for feature in shop.features.events]
    problems = [
        Problem(
            f"shop {shop.name}",
            key,
            repr(name),
            f"names other than {', '.join(sorted(RESERVED[key]))}",
            code="not-allowed",
        )
        for key, names in named.items()
        for name in names
        if name in RESERVED[key]
    ]
    if problems:
        raise SpecError(problems)
