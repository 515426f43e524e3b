"""All data that rules need, as of one moment: the rules themselves, the item table, the blacklist."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import pyarrow as pa
from pydantic import ValidationError

from endcap.errors import IntegrityError, UserError
from endcap.safe_reading import parse_json
from endcap.spec.rules import Rules
from endcap.store import fingerprint, open_document, stamp_document

CATALOGUE = "catalogue"
"""The kind of the published rule data."""


@dataclass(frozen=True)
class Catalogue:
    """The rule data and the item table of a shop, which are published together.

    Attributes
    ----------
    rules
        The rules.
    items
        One row for each item: `item` and the shop's attributes, texts as strings and numbers as floats.
    blacklist
        Ids of items that are never shown.
    read_time
        When the files were read, in epoch milliseconds.
    """

    rules: Rules
    items: pa.Table = field(default_factory=pa.schema([("item", pa.string())]).empty_table)
    blacklist: frozenset[str] = frozenset()
    read_time: int = 0

    @functools.cached_property
    def version(self) -> str:
        """The fingerprint of the content. It does not depend on when and where the content was read."""
        digest = hashlib.sha256()
        with pa.ipc.new_stream(_HashingFile(digest), self.items.schema.remove_metadata()) as writer:
            writer.write_table(self.items.replace_schema_metadata(None).combine_chunks())
        rules = self.rules.model_dump(mode="json", exclude={"blacklist": {"sources"}})
        return fingerprint(rules, sorted(self.blacklist), digest.hexdigest())

    def to_json(self) -> dict[str, Any]:
        """Return all but the item table as JSON values."""
        return {
            "made": self.read_time,
            "rules": self.rules.model_dump(mode="json"),
            "blacklist": sorted(self.blacklist),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Return the catalogue that `to_json` wrote, without items. Raises ValueError, KeyError or TypeError."""
        rules = Rules.model_validate_json(json.dumps(document["rules"]))
        return cls(rules, blacklist=_check_ids(document["blacklist"]), read_time=_check_time(document["made"]))

    def to_bytes(self) -> bytes:
        """Return two Arrow streams compressed by zstd: items and blacklist. The first one's metadata hold the rest."""
        description = stamp_document(CATALOGUE, {"made": self.read_time, "rules": self.rules.model_dump(mode="json")})
        items = self.items.replace_schema_metadata({"endcap": json.dumps(description)})
        sink = pa.BufferOutputStream()
        for table in (items, pa.table({"item": pa.array(sorted(self.blacklist), pa.string())})):
            with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
                writer.write_table(table)
        content: bytes = sink.getvalue().to_pybytes()
        return content

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """Return the catalogue that `to_bytes` wrote. Raises IntegrityError if it is damaged or of another format."""
        source = pa.BufferReader(content)
        try:
            items, blacklist = (pa.ipc.open_stream(source).read_all() for _ in range(2))
            description = open_document(CATALOGUE, parse_json(items.schema.metadata[b"endcap"]), "its description")
            rules = Rules.model_validate_json(json.dumps(description["rules"]))
            blacklisted = _check_ids(blacklist["item"].to_pylist())
            _check_ids(items["item"].to_pylist())
            return cls(rules, items.replace_schema_metadata(None), blacklisted, _check_time(description["made"]))
        except (
            pa.ArrowException,
            OSError,
            ValueError,
            KeyError,
            TypeError,
            RecursionError,
            AttributeError,
            ValidationError,
            UserError,
        ) as error:
            raise IntegrityError(
                f"the published catalogue cannot be read ({error}); publish it again: endcap refresh SPEC",
                code="rules.catalogue-damaged",
                reason=str(error),
            ) from error


def _check_ids(value: object) -> frozenset[str]:
    if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
        raise ValueError("a list of ids that are texts is expected")
    return frozenset(value)


def _check_time(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{value!r:.50} is no time in epoch milliseconds")
    return value


class _HashingFile:
    """A file that keeps only the hash of its content."""

    def __init__(self, digest: hashlib._Hash) -> None:
        self._digest = digest
        self.closed = False

    def write(self, data: bytes) -> int:
        self._digest.update(data)
        return len(data)

    def flush(self) -> None:
        """Nothing waits."""

    def close(self) -> None:
        self.closed = True
