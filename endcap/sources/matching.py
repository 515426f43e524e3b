"""Compare lists of ids: which ids of one list are missing in another, and why they may be.

A likely reason is a lost zero, another case or a blank. `find_near_duplicates` finds ids of one list that differ from
each other by such a reason alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

Json = dict[str, Any]
EXAMPLES = 5
_SAMPLE = 10_000
"""The number of ids that are tried for a reason. A few show what made ids differ."""


def _without_zeros(ids: pa.Array) -> pa.Array:
    return pc.utf8_ltrim(ids, "0")


def _without_decimals(ids: pa.Array) -> pa.Array:
    return pc.replace_substring_regex(ids, r"\.0+$", "")


def _without_blanks(ids: pa.Array) -> pa.Array:
    return pc.replace_substring(pc.utf8_trim_whitespace(ids), " ", "")


def _normalize(ids: pa.Array) -> pa.Array:
    return pc.utf8_lower(_without_zeros(_without_decimals(_without_blanks(ids))))


REASONS: dict[str, tuple[str, Callable[[pa.Array], pa.Array]]] = {
    "leading_zeros": ("leading zeros were lost", _without_zeros),
    "decimals": ("a .0 was added, as tools do that take ids for numbers", _without_decimals),
    "case": ("capitals differ", pc.utf8_lower),
    "blanks": ("blanks differ", _without_blanks),
    "several": ("zeros, .0, capitals and blanks differ", _normalize),
}
"""Why two ids of one thing may differ: the words for messages, and a function that removes the difference."""


NEAR_DUPLICATES: dict[str, tuple[str, Callable[[pa.Array], pa.Array]]] = {
    "blanks": ("blanks round them", pc.utf8_trim_whitespace),
    "case": ("capitals", pc.utf8_lower),
}
"""How ids of one table may differ by mistake: the words for messages, and a function that removes the difference."""


def find_near_duplicates(ids: pa.Array) -> Json:
    """Find ids that differ from another one only in a way of `NEAR_DUPLICATES`.

    Parameters
    ----------
    ids
        Ids as text, each once.

    Returns
    -------
    dict
        For each way in which ids differ: `ids`, their number, and two of them as an `example`.
    """
    ids, ways = _flatten(ids), {}
    for name, (_, changed) in NEAR_DUPLICATES.items():
        forms = changed(ids)
        counts = pc.value_counts(forms)
        shared = counts.filter(pc.greater(counts.field("counts"), 1))
        if len(shared):
            example = ids.filter(pc.equal(forms, shared.field("values")[0]))[:2].to_pylist()
            ways[name] = {"ids": pc.sum(shared.field("counts")).as_py(), "example": example}
    return ways


def count_unmatched(ids: pa.Array, among: pa.Array) -> Json:
    """Count ids that are not among others, and find the likely reason.

    Parameters
    ----------
    ids
        Ids as text, each once.
    among
        The ids to compare with.

    Returns
    -------
    dict
        `ids`, the number of ids; `missing`, the number of those that are not among the others; `examples`, the first
        missing ones; `likely`, None or the `reason` (a key of `REASONS`) that explains most of them, the number of
        `ids` among the first 10,000 that it explains, and a pair of ids as an `example`.
    """
    ids, among = (_flatten(column) for column in (ids, among))
    missing = ids.filter(pc.invert(pc.is_in(ids, value_set=among)))
    examples = missing[:EXAMPLES].to_pylist()
    return {
        "ids": len(ids),
        "missing": len(missing),
        "examples": examples,
        "likely": _find_likely_reason(missing, among),
    }


def has_likely_reason(matched: Json) -> bool:
    """Return whether the likely reason in a result of `count_unmatched` explains most missing ids."""
    return matched["likely"] is not None and 2 * matched["likely"]["ids"] >= min(matched["missing"], _SAMPLE)


def describe_likely_reason(matched: Json) -> str:
    """Return the likely reason in a result of `count_unmatched` as the end of a sentence, or an empty text."""
    likely = matched["likely"]
    if likely is None:
        return ""
    id_here, id_there = likely["example"]
    return f"; {REASONS[likely['reason']][0]}: {id_here!r} here, {id_there!r} there"


def _find_likely_reason(missing: pa.Array, among: pa.Array) -> Json | None:
    sample = missing[:_SAMPLE]
    # Ids that meet for one reason alone meet for all of them together: where none does, the others need no look.
    if not len(sample) or _find_places(_normalize(sample), _normalize(among)).null_count == len(sample):
        return None
    best: Json | None = None
    for name, (_, changed) in REASONS.items():
        places = _find_places(changed(sample), changed(among))
        matches = len(places) - places.null_count
        if matches > (0 if best is None else best["ids"]):
            row = pc.indices_nonzero(pc.is_valid(places))[0].as_py()
            best = {
                "reason": name,
                "ids": matches,
                "example": [sample[row].as_py(), among[places[row].as_py()].as_py()],
            }
    return best


def _find_places(ids: pa.Array, among: pa.Array) -> pa.Array:
    """The place of each id among the others, null where it is not."""
    return pc.index_in(ids, value_set=among)


def _flatten(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
