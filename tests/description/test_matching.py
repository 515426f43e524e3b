"""Ids that are not among others, and why they may not be."""

from __future__ import annotations

import pyarrow as pa
import pytest

from endcap.sources.matching import count_unmatched, has_likely_reason


@pytest.mark.parametrize(
    ("ids", "among", "missing", "likely"),
    [
        (["0100", "0101", "7"], ["100", "101", "7"], 2, ("leading_zeros", 2, ["0100", "100"])),
        (["100"], ["000100"], 1, ("leading_zeros", 1, ["100", "000100"])),
        (["0", "000"], ["00"], 2, ("leading_zeros", 2, ["0", "00"])),
        (["12.0", "13.0"], ["12", "13"], 2, ("decimals", 2, ["12.0", "12"])),
        (["SKU-1"], ["sku-1"], 1, ("case", 1, ["SKU-1", "sku-1"])),
        (["sku 1", " sku2"], ["sku1", "sku2"], 2, ("blanks", 2, ["sku 1", "sku1"])),
        (["A07.0"], ["a7"], 1, None),
        (["007.0", "008.0"], ["7", "8"], 2, ("several", 2, ["007.0", "7"])),
        (["x"], ["y"], 1, None),
        (["x"], [], 1, None),
        (["x"], ["x", "y"], 0, None),
        ([], ["y"], 0, None),
    ],
)
def test_what_is_missing_and_what_would_let_it_meet(
    ids: list[str], among: list[str], missing: int, likely: tuple[str, int, list[str]] | None
) -> None:
    found = count_unmatched(pa.array(ids, pa.string()), pa.array(among, pa.string()))
    assert (found["ids"], found["missing"]) == (len(ids), missing)
    told = found["likely"]
    assert (None if told is None else (told["reason"], told["ids"], told["example"])) == likely


def test_a_reason_that_holds_for_few_explains_nothing() -> None:
    """Of many items without a row one may look like another by chance."""
    found = count_unmatched(pa.array([*"abcdefg", "07"]), pa.chunked_array([["7"], ["8"]]))
    assert found["examples"] == ["a", "b", "c", "d", "e"]
    assert found["likely"]["ids"] == 1
    assert not has_likely_reason(found)
