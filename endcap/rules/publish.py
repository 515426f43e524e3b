"""The catalogue in the online store. It is published as a whole, and servers read it without a restart."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

from endcap.rules.catalogue import Catalogue

if TYPE_CHECKING:
    from endcap.online import OnlineStore

CATALOGUE, MADE = "catalogue", "catalogue/made"
"""Tables of one row, whose key is the table's name. The version of the first is that of the content, so that unchanged
content is neither sent nor read again. The second, a small one, holds the time of the last reading."""


def publish_catalogue(store: OnlineStore, catalogue: Catalogue) -> bool:
    """Publish a catalogue in one step. The previous one is kept for a roll-back.

    Returns
    -------
    bool
        Whether anything but `made` changed.

    Raises
    ------
    OnlineStoreError
        If the store does not answer. The published catalogue stays then.
    """
    version = catalogue.version
    changed = store.published(CATALOGUE) != version
    if changed:
        store.write(CATALOGUE, version, {CATALOGUE: catalogue.to_bytes()})
        store.publish(CATALOGUE, version)
    reading = json.dumps({"version": version, "made": catalogue.read_time}).encode()
    store.write(MADE, f"{catalogue.read_time}-{version}", {MADE: reading})
    store.publish(MADE, f"{catalogue.read_time}-{version}")
    return changed


def fetch_catalogue(store: OnlineStore, cached: Catalogue | None = None) -> Catalogue | None:
    """Fetch the published catalogue.

    Parameters
    ----------
    store
        The online store.
    cached
        The catalogue of an earlier call. The same content is not read again.

    Returns
    -------
    Catalogue or None
        The catalogue, or None if none is published. `cached` itself if nothing changed.

    Raises
    ------
    OnlineStoreError
        If the store does not answer.
    IntegrityError
        If the published catalogue cannot be read. `cached` remains valid then.
    """
    version = store.published(CATALOGUE)
    if version is None:
        return None
    catalogue = cached
    if catalogue is None or catalogue.version != version:
        (row,) = store.rows(CATALOGUE, [CATALOGUE], version)
        if row is None:  # another was published meanwhile, twice
            return cached
        catalogue = _with_version(Catalogue.from_bytes(row), version)
    (reading,) = store.rows(MADE, [MADE])
    details = json.loads(reading) if reading else {}
    if details.get("version") != catalogue.version or details["made"] == catalogue.read_time:
        return catalogue
    return _with_version(replace(catalogue, read_time=details["made"]), version)


def _with_version(catalogue: Catalogue, version: str) -> Catalogue:
    """Set the version under which the catalogue was published.

    Another release may compute another version of the same content. Without this, a server would read it each time.
    """
    catalogue.__dict__["version"] = version
    return catalogue
