"""A fingerprint of a bag of rows: the same in any order and any file layout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from endcap.sources.sql import quote_name

LANE = 2**64


def digest_rows(connection: Any, files: str, columns: Sequence[str], also: Sequence[str] = ()) -> tuple[str, list[Any]]:
    """The bag's fingerprint, 32 hex digits, over these columns of Parquet files, and what `also` (aggregates) gives.

    Each row is hashed by MD5 over its values, each behind its length, so that no two rows read alike; the two halves
    of the hashes are summed modulo 2^64: a multiset hash by addition (Bellare and Micciancio, 1997, AdHash).
    """
    # concat leaves nulls out: a value reads 3:abc, an empty one 0: and a null one : alone.
    parts = ", ".join(f"strlen({name}::VARCHAR), ':', {name}::VARCHAR" for name in map(quote_name, columns))
    sums = ", ".join(["sum((digest >> 64)::UBIGINT)", f"sum((digest & {LANE - 1})::UBIGINT)", *also])
    rows = connection.execute(
        f"SELECT {sums} FROM (SELECT *, md5_number(concat({parts})) AS digest FROM {files})"  # noqa: S608 (quoted)
    ).fetchall()
    high, low, *rest = rows[0]
    return f"{int(high or 0) % LANE:016x}{int(low or 0) % LANE:016x}", rest
