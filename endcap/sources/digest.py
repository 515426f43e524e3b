"""A fingerprint of a bag of rows: the same in any order and any file layout."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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
    ((_, digest, values),) = _digest(connection, files, columns, also)
    return digest, values


def digest_groups(
    connection: Any, files: str, columns: Sequence[str], by: str, also: Sequence[str] = ()
) -> list[tuple[Any, str, list[Any]]]:
    """Compute the fingerprint of each group of rows, in the order of groups.

    Parameters
    ----------
    connection, files, columns, also
        As of `digest_rows`.
    by
        SQL of what a group's rows share.

    Returns
    -------
    list
        For each group its value of `by`, its fingerprint and its values of `also`. Their fingerprints add up to that of
        all rows (`add_digests`).
    """
    return _digest(connection, files, columns, also, by)


def add_digests(digests: Iterable[str]) -> str:
    """Return the fingerprint of bags of rows together, from the fingerprint of each."""
    high = low = 0
    for digest in digests:
        high, low = high + int(digest[:16], 16), low + int(digest[16:], 16)
    return _format_digest(high, low)


def _format_digest(high: int, low: int) -> str:
    return f"{high % LANE:016x}{low % LANE:016x}"


def _digest(
    connection: Any, files: str, columns: Sequence[str], also: Sequence[str], by: str | None = None
) -> list[tuple[Any, str, list[Any]]]:
    # concat leaves nulls out: a value reads 3:abc, an empty one 0: and a null one : alone.
    parts = ", ".join(f"strlen({name}::VARCHAR), ':', {name}::VARCHAR" for name in map(quote_name, columns))
    sums = ", ".join(["sum((digest >> 64)::UBIGINT)", f"sum((digest & {LANE - 1})::UBIGINT)", *also])
    group, grouping = ("NULL", "") if by is None else (by, " GROUP BY part_of ORDER BY part_of")
    rows = connection.execute(
        f"SELECT {group} AS part_of, {sums} "  # noqa: S608 (all parts are quoted)
        f"FROM (SELECT *, md5_number(concat({parts})) AS digest FROM {files}){grouping}"
    ).fetchall()
    return [(of, _format_digest(int(high or 0), int(low or 0)), values) for of, high, low, *values in rows]
