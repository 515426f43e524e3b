"""Tombstones: what says of a removed artifact that it held a customer who is forgotten, so that it never comes back."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from endcap.store import Store, get_content_key

Json = dict[str, Any]
TOMBSTONES = "tombstones"
"""The kind of the documents. Each is named as its artifact: ``tombstones/datasets/rsc15/<key>``."""


@dataclass(frozen=True)
class Tombstone:
    """Says that an artifact was removed because a customer is forgotten.

    Attributes
    ----------
    name
        Kind and key of the artifact.
    removed
        When its removal began (UTC, ISO 8601).
    request
        The request by which a customer is forgotten. It does not tell whom it is about.
    """

    name: str
    removed: str
    request: str

    def to_json(self) -> Json:
        """Return the tombstone as JSON values."""
        return asdict(self)


def write_tombstone(store: Store, address: str, request: str) -> None:
    """Say of an artifact that it is removed. The first tombstone of an artifact stays.

    Parameters
    ----------
    store
        The store of the artifact.
    address
        The artifact's address.
    request
        The request by which a customer is forgotten.
    """
    name = get_content_key(address)
    tombstone = Tombstone(name, datetime.now(UTC).isoformat(timespec="seconds"), request)
    store.update_document(f"{TOMBSTONES}/{name}", lambda document: document or tombstone.to_json())


def find_tombstone(store: Store, address: str) -> Tombstone | None:
    """Find the tombstone of an artifact; None if no customer was the reason why it is gone."""
    name = get_content_key(address)
    document = store.read_document(f"{TOMBSTONES}/{name}") if name.count("/") == 2 else None
    return Tombstone(**document) if document else None


def list_tombstones(store: Store, kind: str) -> set[str]:
    """List the artifacts of a kind, such as ``datasets/rsc15``, that have a tombstone: kind and key of each."""
    return {name.removeprefix(f"{TOMBSTONES}/") for name in store.list_documents(f"{TOMBSTONES}/{kind}")}
