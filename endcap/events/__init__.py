"""Events in: from files as shops have them to an immutable, fingerprinted snapshot."""

from endcap.events.conversion import convert
from endcap.events.ingestion import ingest
from endcap.events.snapshot import Snapshot, open_snapshot

__all__ = ["Snapshot", "convert", "ingest", "open_snapshot"]
