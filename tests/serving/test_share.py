"""The share that shoppers see is the weight. `make bench` asks 100,000 of them (tests/bench/share.py)."""

from __future__ import annotations

from pathlib import Path

from tests.serving.shoppers import met_canary

SHOPPERS = 10_000


def test_the_share_that_shoppers_see_is_the_weight_and_a_larger_one_keeps_them(tmp_path: Path) -> None:
    tenth, third = met_canary(tmp_path, (0.1, 0.3), SHOPPERS)
    # Three standard deviations of a binomial at 10,000 shoppers. The hashes are the same in every run.
    assert abs(len(tenth) / SHOPPERS - 0.1) < 0.009
    assert abs(len(third) / SHOPPERS - 0.3) < 0.0138
    assert tenth < third
