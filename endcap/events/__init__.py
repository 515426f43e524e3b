"""Ingest: checked rows of a shop's files become an immutable, fingerprinted snapshot, which SQL and frames read."""

from endcap.events.conversion import convert
from endcap.events.ingestion import ingest

__all__ = ["convert", "ingest"]
