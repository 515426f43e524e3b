"""A source of a shop with its files, as ingest reads it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from endcap.sources.find import SourceParts
from endcap.spec.source import SourceSpec


@dataclass(frozen=True)
class SourceInput:
    """A source with its files and their SHA-256 digests, which a snapshot's facts name as its origin."""

    table: str
    source: SourceSpec
    source_files: SourceParts
    digests: list[str]

    def facts(self) -> dict[str, Any]:
        files = [
            {**file.facts(), "sha256": sha256}
            for file, sha256 in zip(self.source_files.files, self.digests, strict=True)
        ]
        return {
            "table": self.table,
            "path": self.source.path,
            "files": files,
            "skipped": self.source_files.skipped,
        }
