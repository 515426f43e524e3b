"""Which ids of one list are in another, and what would make the others meet: zeros that were lost, case, blanks.

Also which ids of one list differ from each other in such a way alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

Json = dict[str, Any]
EXAMPLES = 5
_SAMPLE = 10_000
"""Ids that reasons are looked for with: what made ids differ shows in a few."""


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
"""Why ids that mean the same may not be the same: the words for it, and what of an id stays without it."""


NEAR_DUPLICATES: dict[str, tuple[str, Callable[[pa.Array], pa.Array]]] = {
    "blanks": ("blanks round them", pc.utf8_trim_whitespace),
    "case": ("capitals", pc.utf8_lower),
}
"""In what ids of one table may differ that mean the same: the words for it, and what of an id stays without it."""


def find_near_duplicates(ids: pa.Array) -> Json:
    """Which of these ids (texts, each once) differ from another in nothing but a way of `ALIKE`.

    Returns by its key `ids`, how many, and two of them as an `example`; what no ids differ in is left out.
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
    """How many of `ids` (texts, each once) are not `among` these, with the likely reason.

    Returns ids: how many there are; missing: how many are not among the others; examples: the first of those; likely:
    None, or the `reason` (a key of `REASONS`) that lets most of them meet, for how many `ids` of the first 10,000 it
    does, and a pair of ids as an `example`.
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
    """Whether the likely reason of what `unmatched` gave holds for most of what is missing."""
    return matched["likely"] is not None and 2 * matched["likely"]["ids"] >= min(matched["missing"], _SAMPLE)


def describe_likely_reason(matched: Json) -> str:
    """The likely reason of what `unmatched` gave, as the end of a sentence; empty where there is none."""
    likely = matched["likely"]
    if likely is None:
        return ""
    here, there = likely["example"]
    return f"; {REASONS[likely['reason']][0]}: {here!r} here, {there!r} there"


def _find_likely_reason(missing: pa.Array, among: pa.Array) -> Json | None:
    tried = missing[:_SAMPLE]
    # Ids that meet for one reason alone meet for all of them together: where none does, the others need no look.
    if not len(tried) or _find_places(_normalize(tried), _normalize(among)).null_count == len(tried):
        return None
    best: Json | None = None
    for name, (_, changed) in REASONS.items():
        places = _find_places(changed(tried), changed(among))
        met = len(places) - places.null_count
        if met > (0 if best is None else best["ids"]):
            row = pc.indices_nonzero(pc.is_valid(places))[0].as_py()
            best = {"reason": name, "ids": met, "example": [tried[row].as_py(), among[places[row].as_py()].as_py()]}
    return best


def _find_places(ids: pa.Array, among: pa.Array) -> pa.Array:
    """The place of each id among the others, null where it is not."""
    return pc.index_in(ids, value_set=among)


def _flatten(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
