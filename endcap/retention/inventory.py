"""What a store has: its artifacts, their sizes and last uses, and what each refers to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from endcap.errors import NotFoundError
from endcap.events.snapshot_days import find_units
from endcap.origins import list_origins
from endcap.store import Store, get_content_key

KINDS = (
    *("reports", "comparisons", "recommendations", "recipes", "baselines", "packages", "refitted", "verdicts"),
    *("trained", "fits", "descriptions", "datasets", "coded", "snapshots", "parsed"),
)
"""The kinds that a run can make again, each before those that it refers to. Tables of SQL steps and artifacts of a
user's own steps are none of them: only their owner knows who reads them."""
PARALLEL = 16
"""Manifests that are read at once."""


@dataclass(frozen=True)
class Contents:
    """What an artifact's manifest tells, which never changes.

    Attributes
    ----------
    created
        When it was made (UTC, ISO 8601).
    references
        Addresses of what it was made of, and of the units that a snapshot refers to.
    days
        The keys of a snapshot's days, or of the day that was coded.
    """

    created: str
    references: tuple[str, ...]
    days: frozenset[str]


@dataclass(frozen=True)
class StoredArtifact:
    """An artifact of the store.

    Attributes
    ----------
    address, used, bytes
        As `endcap.store.uses.ArtifactUse` has them.
    contents
        What its manifest tells; None if it has none, because a removal was cut off.
    """

    address: str
    used: datetime
    bytes: int
    contents: Contents | None

    @property
    def name(self) -> str:
        """Kind and key."""
        return get_content_key(self.address)

    @property
    def kind(self) -> str:
        """The kind without the owner, such as ``datasets``."""
        return self.name.split("/")[0]

    @property
    def owner(self) -> str:
        """The shop or the recommender."""
        return self.name.split("/")[1]

    @property
    def references(self) -> tuple[str, ...]:
        """Addresses of what it refers to."""
        return () if self.contents is None else self.contents.references

    @property
    def days(self) -> frozenset[str]:
        """The keys of its days."""
        return frozenset() if self.contents is None else self.contents.days


class Inventory:
    """Lists what a store has. Each manifest is read once, however often the store is listed."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._contents: dict[str, Contents] = {}

    def list_artifacts(self) -> dict[str, StoredArtifact]:
        """List the artifacts of all kinds, in the order of `KINDS`, by address.

        Raises
        ------
        IntegrityError, UserError
            If a manifest is damaged, or of a newer release: what it refers to is not known then.
        """
        return {artifact.address: artifact for artifact in self._read_artifacts()}

    def _read_artifacts(self) -> Iterator[StoredArtifact]:
        with ThreadPoolExecutor(PARALLEL) as pool:
            for kind in KINDS:
                uses = [use for owned in self.store.list_kinds(kind) for use in self.store.list_uses(owned)]
                contents = pool.map(self._find_contents, (use.address if use.is_whole else "" for use in uses))
                for use, content in zip(uses, contents, strict=True):
                    yield StoredArtifact(use.address, use.used, use.bytes, content)

    def _find_contents(self, address: str) -> Contents | None:
        if address and address not in self._contents:
            try:
                manifest = self.store.manifest(address)
            except NotFoundError:  # removed meanwhile
                return None
            self._contents[address] = _read_contents(manifest, self.store.root)
        return self._contents.get(address)


def _read_contents(manifest: Mapping[str, Any], root: str) -> Contents:
    facts, kind = manifest["facts"], get_content_key(manifest["address"]).split("/")[0]
    references, days = [origin.address for origin in list_origins(facts)], []
    if kind == "snapshots":
        references += [f"{root}/{unit}" for unit in sorted(find_units(facts))]
        days = [day["key"] for day in facts.get("days", ())]
    elif kind == "coded":
        days = [facts["day_key"]]
    return Contents(str(manifest["created"]), tuple(dict.fromkeys(references)), frozenset(days))
