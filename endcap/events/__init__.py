"""Events in: from files as shops have them to an immutable, fingerprinted snapshot."""

from endcap.events.conversion import convert
from endcap.events.ingestion import ingest

__all__ = ["convert", "ingest"]
