"""Which processes wrote samples, how many, and whether each ended in order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow.compute as pc

from endcap.samples.files import SampleFile, decode_file
from endcap.samples.places import SamplePlace
from endcap.samples.reading import list_files


@dataclass(frozen=True)
class WriterSummary:
    """What a process wrote.

    Attributes
    ----------
    instance
        The process.
    files
        How many files of it there are.
    outcomes
        How many rankings had which outcome, as of its last file.
    last
        The time of the last ranking in its last file; None if that file has none.
    ended
        Whether it ended in order. Otherwise it lives, or it was killed and lost what it sampled since its last file.
    """

    instance: str
    files: int
    outcomes: Mapping[str, int]
    last: datetime | None
    ended: bool

    def to_json(self) -> dict[str, Any]:
        """Return the summary as JSON values."""
        return {
            "instance": self.instance,
            "files": self.files,
            "outcomes": dict(self.outcomes),
            "last": None if self.last is None else self.last.isoformat(),
            "ended": self.ended,
        }


def summarise_writers(place: SamplePlace, recommender: str) -> list[WriterSummary]:
    """Summarise the processes that wrote a recommender's samples, in the order of their last files.

    Raises
    ------
    IntegrityError
        A process's last file is damaged, or of a newer release.
    StorageError, OSError
        The place cannot be read.
    """
    by_instance: dict[str, list[SampleFile]] = {}
    for file in list_files(place, recommender):
        by_instance.setdefault(file.instance, []).append(file)
    summaries = []
    for instance, files in by_instance.items():
        newest = max(files, key=lambda file: file.sequence)
        content = place.read(newest.name)
        if content is None:
            continue  # its day was removed meanwhile
        table, description = decode_file(content, newest.name)
        latest = pc.max(table["time"]).as_py()
        last = None if latest is None else datetime.fromtimestamp(latest / 1000, UTC)
        summaries.append(WriterSummary(instance, len(files), description.outcomes, last, description.ended))
    return summaries
