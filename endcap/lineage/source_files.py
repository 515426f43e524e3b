"""The files of a log that a snapshot was made of, and the days that each of them fed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True)
class UsedFile:
    """A file, or a part of a warehouse's table, that a snapshot was made of.

    Attributes
    ----------
    table
        ``events``, ``items`` or ``customers``.
    path
        Its path or address when it was read.
    sha256
        The digest of its content.
    days
        The days of the events that it fed; none for items and customers.
    """

    table: str
    path: str
    sha256: str
    days: tuple[str, ...]

    def is_named(self, name: str) -> bool:
        """Tell whether a name means this file: its path, the end of it, or its digest."""
        return name in (self.path, self.sha256) or self.path.endswith(f"/{name.removeprefix('./')}")

    def to_json(self) -> Json:
        """Return the file as JSON values."""
        return asdict(self) | {"days": list(self.days)}


def list_used_files(facts: Mapping[str, Any]) -> list[UsedFile]:
    """List the files of a snapshot, in reading order, from the facts of its manifest."""
    days: dict[int, list[str]] = {}
    for day in facts.get("days", []):
        for number in day.get("fed_by", []):
            days.setdefault(number, []).append(day["day"])
    files, number = [], 0
    for source in facts.get("sources", []):
        for file in source["files"]:
            is_event = source["table"] == "events"
            fed = tuple(days.get(number, ())) if is_event else ()
            files.append(UsedFile(source["table"], file["path"], file["sha256"], fed))
            number += is_event
    return files
