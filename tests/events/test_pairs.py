"""The bench that compares ingest with another checkout's."""

from __future__ import annotations

import pytest

from tests.bench._pairs import HERE, INPUTS, compare


@pytest.mark.slow
def test_a_checkout_is_compared_with_itself_on_every_kind_of_input() -> None:
    results = compare(HERE, rows=2_000, pairs=1)
    assert [result["name"] for result in results] == [f"ingest_{kind}_by_other" for kind in INPUTS]
    assert all(result["ratios"] == [result["value"]] and result["value"] > 0 for result in results)
