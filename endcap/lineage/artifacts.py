"""An artifact and all that it was made of, as manifests tell: each names its inputs by their addresses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from endcap.errors import NotFoundError
from endcap.lineage.tombstones import Tombstone, find_tombstone
from endcap.origins import Origin, list_origins
from endcap.store import Store, get_content_key

Json = dict[str, Any]


@dataclass(frozen=True)
class TracedArtifact:
    """An artifact in a lineage.

    Attributes
    ----------
    address
        Its address.
    created
        When it was made (UTC, ISO 8601); empty if the store does not have it.
    facts
        The facts of its manifest; empty if the store does not have it.
    origins
        What it was made of.
    tombstone
        Says that it is gone because a customer is forgotten; None if it is there, or gone for another reason.
    """

    address: str
    created: str
    facts: Mapping[str, Any]
    origins: tuple[Origin, ...]
    tombstone: Tombstone | None = None

    @property
    def kind(self) -> str:
        """The kind without the owner, such as ``datasets``."""
        return get_content_key(self.address).split("/")[0]

    @property
    def is_gone(self) -> bool:
        """Whether the store does not have it any more."""
        return not self.created

    def to_json(self) -> Json:
        """Return the artifact as JSON values, without its facts."""
        origins = [asdict(origin) for origin in self.origins]
        state = {"created": self.created or None, "gone": self.is_gone}
        forgotten = None if self.tombstone is None else self.tombstone.to_json()
        return {"address": self.address, **state, "forgotten": forgotten, "made_of": origins}


def trace_artifact(address: str, store: Store) -> list[TracedArtifact]:
    """Trace an artifact back: the artifact itself, then all that it was made of, each once and nearer ones first.

    An artifact that the store does not have any more is listed, and marked as gone.
    """
    traced: dict[str, TracedArtifact] = {}
    waiting = [store.translate(address)]
    while waiting:
        current = waiting.pop(0)
        if current in traced:
            continue
        traced[current] = read_artifact(current, store)
        waiting += [origin.address for origin in traced[current].origins]
    return list(traced.values())


def read_artifact(address: str, store: Store) -> TracedArtifact:
    """Read an artifact's manifest. Raises IntegrityError if it is damaged."""
    try:
        manifest = store.manifest(address)
    except NotFoundError:
        return TracedArtifact(address, "", {}, (), find_tombstone(store, address))
    return TracedArtifact(
        manifest["address"], str(manifest["created"]), manifest["facts"], list_origins(manifest["facts"])
    )
