"""A part of a source, which is read as a whole: a file, or such as a day of a warehouse's table."""

from __future__ import annotations

from typing import Any, Protocol


class SourcePart(Protocol):
    """A part of a source, as `endcap.sources.load.Loader` reads it and as a snapshot names it."""

    @property
    def name(self) -> str:
        """Its name in errors and facts: its path, or its address."""

    @property
    def format(self) -> str:
        """How it is read, such as ``csv``."""

    @property
    def compression(self) -> str | None:
        """How it is compressed, if it is."""

    @property
    def bytes(self) -> int:
        """Its size."""

    @property
    def has_places(self) -> bool:
        """Whether the order of its rows says anything, so that events record their positions."""

    @property
    def is_kept_alone(self) -> bool:
        """Whether its rows are kept for themselves, however few, because reading it again costs more than that."""

    def digest(self) -> str:
        """Return a digest of its content, in hex: another content has another. Raises DataError if it cannot be
        read."""

    def check_unchanged(self) -> None:
        """Raise DataError if it changed since the search for it."""

    def facts(self) -> dict[str, Any]:
        """Return what a snapshot's facts say of it beside its digest, such as its `path` and `bytes`."""
