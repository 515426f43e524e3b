"""A fingerprint of a bag of rows: the same in any order and any file layout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from endcap.sources.sql import quote_name

LANE = 2**64


def digest_rows(connection: Any, files: str, columns: Sequence[str], also: Sequence[str] = ()) -> tuple[str, list[Any]]:
    """Compute a fingerprint of rows that does not depend on their order.

    Parameters
    ----------
    connection
        A DuckDB connection.
    files
        The rows as SQL.
    columns
        The columns that count.
    also
        Further SQL aggregates to compute in the same pass.

    Returns
    -------
    tuple
        The fingerprint, 32 hex digits, and the values of `also`.

    Notes
    -----
    MD5 hashes each row over its values, with each value's length before it, so that different rows give different
    texts. Both halves of the hashes are summed modulo 2^64: a multiset hash by addition (Bellare and Micciancio, 1997,
    AdHash).
    """
    # concat leaves nulls out: a value reads 3:abc, an empty one 0: and a null one : alone.
    parts = ", ".join(f"strlen({name}::VARCHAR), ':', {name}::VARCHAR" for name in map(quote_name, columns))
    sums = ", ".join(["sum((digest >> 64)::UBIGINT)", f"sum((digest & {LANE - 1})::UBIGINT)", *also])
    rows = connection.execute(
        f"SELECT {sums} FROM (SELECT *, md5_number(concat({parts})) AS digest FROM {files})"  # noqa: S608 (quoted)
    ).fetchall()
    high, low, *values = rows[0]
    return f"{int(high or 0) % LANE:016x}{int(low or 0) % LANE:016x}", values
