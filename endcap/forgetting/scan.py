"""Finds customers in the files of artifacts. An id counts as a whole: c1 is not in c10."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from endcap.features.daily.coded_day import CodedDay

CUSTOMER_KEYS = ("customer", "customers", "shopper")
"""Keys of JSON values, and columns, that hold ids of customers. Other values may have the ids of items."""
RAW_KEYS = ("text", "value", "values", "examples", "error", "cause")
"""Keys of JSON values that quote rows of the shop's files, whatever their columns are called."""
HIDDEN = "(forgotten)"
_WORD = rb"[0-9A-Za-z_.@-]"


class CustomerScan:
    """Looks for customers of a shop in files.

    Parameters
    ----------
    customers
        Their ids, as the store has them.
    """

    def __init__(self, customers: Collection[str]) -> None:
        self.customers = frozenset(customers)
        self._values = pa.array(sorted(self.customers), pa.string())

    def is_in_file(self, file: Path) -> bool:
        """Tell whether a file of an artifact names one of the customers in a place for customers."""
        read = _READERS.get(file.suffix)
        return read is not None and read(self, file)

    def is_in_columns(self, file: Path, names: Collection[str] | None = CUSTOMER_KEYS) -> bool:
        """Tell whether a Parquet file has one of the ids in some of its columns of texts. names: None for all."""
        with pq.ParquetFile(file) as opened:
            columns = [
                field.name
                for field in opened.schema_arrow
                if pa.types.is_string(field.type) and (names is None or field.name in names)
            ]
            return bool(columns) and any(
                self._has(column) for batch in opened.iter_batches(columns=columns) for column in batch.columns
            )

    def hide_in_json(self, value: Any) -> Any:
        """Return JSON values with `HIDDEN` in place of the ids, in places for customers."""
        return _map(value, lambda key, text: self._hide(key, text))

    def is_in_bytes(self, file: Path) -> bool:
        """Tell whether the bytes of a file have one of the ids, with no letter or digit beside it.

        In a model's file a short id may be there by chance.
        """
        return self.is_in_text(file.read_bytes())

    def is_in_text(self, text: bytes) -> bool:
        """Tell whether a text has one of the ids, with no letter or digit beside it."""
        return self._pattern.search(text) is not None

    def hide_in_text(self, text: bytes) -> bytes:
        """Return a text with `HIDDEN` in place of the ids."""
        return self._pattern.sub(HIDDEN.encode(), text)

    def is_in_json(self, value: Any) -> bool:
        """Tell whether JSON values name one of the customers in a place for customers."""
        return any(self._names(key, text) for key, text in _walk(value))

    @cached_property
    def _pattern(self) -> re.Pattern[bytes]:
        named = b"|".join(re.escape(customer.encode()) for customer in sorted(self.customers))
        return re.compile(rb"(?<!" + _WORD + rb")(?:" + named + rb")(?!" + _WORD + rb")")

    def _names(self, key: str, text: str) -> bool:
        if key in CUSTOMER_KEYS:
            return text in self.customers
        return key in RAW_KEYS and self.is_in_text(text.encode())

    def _hide(self, key: str, text: str) -> str:
        if not self._names(key, text):
            return text
        return HIDDEN if text in self.customers else self.hide_in_text(text.encode()).decode()

    def _is_in_parquet(self, file: Path) -> bool:
        return self.is_in_columns(file)

    def _is_in_coded_day(self, file: Path) -> bool:
        day = CodedDay.open(file)
        parts = (day.train, day.test, day.owned)
        return any(part is not None and self._has(part.customers) for part in parts)

    def _is_in_json_file(self, file: Path) -> bool:
        return self.is_in_json(json.loads(file.read_bytes()))

    def _is_in_json_lines(self, file: Path) -> bool:
        with file.open(encoding="utf-8") as lines:
            return any(self.is_in_json(json.loads(line)) for line in lines)

    def _has(self, column: pa.Array) -> bool:
        return bool(pc.any(pc.is_in(column, self._values)).as_py())


def is_model_file(name: str) -> bool:
    """Tell whether a file is of a form that only its model reads."""
    return PurePosixPath(name).suffix not in _READERS


_READERS: Mapping[str, Callable[[CustomerScan, Path], bool]] = {
    ".parquet": CustomerScan._is_in_parquet,
    ".arrow": CustomerScan._is_in_coded_day,
    ".json": CustomerScan._is_in_json_file,
    ".jsonl": CustomerScan._is_in_json_lines,
    ".html": CustomerScan.is_in_bytes,
}


def _walk(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield each text with the key that it stands under. What lies below a key that quotes rows has this key."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _walk(inner, key if key in RAW_KEYS else name)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _walk(inner, key)


def _map(value: Any, change: Callable[[str, str], str], key: str = "") -> Any:
    """Change each text by what it is and the key that it stands under, as `_walk` has them."""
    if isinstance(value, str):
        return change(key, value)
    if isinstance(value, Mapping):
        return {name: _map(inner, change, key if key in RAW_KEYS else name) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_map(inner, change, key) for inner in value]
    return value
