"""The catalogue in the online store: published whole, read by whoever serves, without a restart."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

from endcap.rules.catalogue import Catalogue

if TYPE_CHECKING:
    from endcap.online import OnlineStore

CATALOGUE, MADE = "catalogue", "catalogue/made"
"""Tables of one row each, named as `CATALOGUE` and `MADE` too. The first one's version is the content's, so that the
same content is neither sent nor read again; when it was last read is told by the second, small one."""


def publish_catalogue(store: OnlineStore, catalogue: Catalogue) -> bool:
    """Publish in one step; the catalogue before it is kept, for going back.

    Returns whether anything but `made` changed. Raises OnlineStoreError; what was published stays then.
    """
    version = catalogue.version
    changed = store.published(CATALOGUE) != version
    if changed:
        store.write(CATALOGUE, version, {CATALOGUE: catalogue.to_bytes()})
        store.publish(CATALOGUE, version)
    reading = json.dumps({"version": version, "made": catalogue.made}).encode()
    store.write(MADE, f"{catalogue.made}-{version}", {MADE: reading})
    store.publish(MADE, f"{catalogue.made}-{version}")
    return changed


def fetch_catalogue(store: OnlineStore, cached: Catalogue | None = None) -> Catalogue | None:
    """What is published, or None. `have`: what was fetched before; the same content is not read again, and comes back
    with the new `made`: the same object where that is no other either.

    Raises OnlineStoreError; IntegrityError where what is published cannot be read: what one has stays right then.
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
    if details.get("version") != catalogue.version or details["made"] == catalogue.made:
        return catalogue
    return _with_version(replace(catalogue, made=details["made"]), version)


def _with_version(catalogue: Catalogue, version: str) -> Catalogue:
    """The catalogue with the version that it was published by: another release may count another for its content,
    and whoever looks for a new one must not read it again each time."""
    catalogue.__dict__["version"] = version
    return catalogue
