"""The share that shoppers see is the weight. `make bench` asks 100,000 of them (tests/bench/share.py)."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from endcap.experiments.layout import AB_ARMS, Layout, count_movers
from endcap.experiments.splits import TrafficSplit, hash_salt
from tests.serving.shoppers import SALT, meet_arms

SHOPPERS = 10_000
CHANGES, LAYOUTS = 200, 1_000
SPLITS = (
    {"share": 0.1},
    {"share": 0.3},
    {"share": 0.3, "previous_share": 0.02, "baseline_share": 0.05},
    {"share": 0.000_5, "baseline_share": 0.999_5},
    {"baseline_share": 0.05},
    {"baseline_share": 1.0},
)


@pytest.mark.slow
def test_envoy_shares_shoppers_out_by_weights_that_can_be_computed_again(tmp_path: Path) -> None:
    arms = meet_arms(tmp_path, SPLITS, SHOPPERS)
    tenth, third, four_arms, *_ = ({number for number, arm in enumerate(met) if arm == "canary"} for met in arms)
    # Three standard deviations of a binomial at 10,000 shoppers. The hashes are the same in every run.
    assert abs(len(tenth) / SHOPPERS - 0.1) < 0.009
    assert abs(len(third) / SHOPPERS - 0.3) < 0.0138
    assert tenth < third
    basic = [{number for number, arm in enumerate(met) if arm == "baseline"} for met in arms]
    assert abs(len(basic[2]) / SHOPPERS - 0.05) < 0.0066
    assert basic[4] == basic[2], "the baseline's shoppers stay the same, whatever else is served"
    assert len(basic[5]) == SHOPPERS
    assert four_arms == third - basic[2]
    assert {arm for arm, count in Counter(arms[2]).items() if count > 100} == {
        "stable",
        "canary",
        "previous",
        "baseline",
    }
    for shares, met in zip(SPLITS, arms, strict=True):
        weights = {name.removesuffix("_share").replace("share", "canary"): share for name, share in shares.items()}
        split = TrafficSplit(hash_salt(SALT), **{arm: round(share * 1_000_000) for arm, share in weights.items()})
        assert met == [split.choose(f"c{number}", SALT) for number in range(SHOPPERS)]


@pytest.mark.slow
def test_a_change_of_one_arms_share_moves_only_those_by_whom_it_changes(tmp_path: Path) -> None:
    rng, shares = random.Random(19), [{"share": 0.05, "previous_share": 0.02}]
    for _ in range(CHANGES):
        arm = rng.choice(["share", "previous_share"])
        other = shares[-1]["previous_share" if arm == "share" else "share"]
        shares.append({**shares[-1], arm: round(rng.uniform(0.001, 1 - other), 6)})
    arms = meet_arms(tmp_path, shares, 200)
    for before, after, met, meets in zip(shares, shares[1:], arms, arms[1:], strict=False):
        arm, name = ("canary", "share") if before["share"] != after["share"] else ("previous", "previous_share")
        movers = {(old, new) for old, new in zip(met, meets, strict=True) if old != new}
        assert movers <= {("stable", arm) if after[name] > before[name] else (arm, "stable")}
        counts = [sum(entry == arm for entry in answers) for answers in (met, meets)]
        assert sum(old != new for old, new in zip(met, meets, strict=True)) == abs(counts[1] - counts[0])


@pytest.mark.slow
def test_each_change_of_an_ab_test_moves_the_fewest_shoppers(tmp_path: Path) -> None:
    layouts = list(_change_layouts(random.Random(20), LAYOUTS))
    met = meet_arms(tmp_path, [{"layout": layout, "baseline_share": 0.05} for layout in layouts], 40)
    splits = [layout.split(hash_salt(SALT), 50_000) for layout in layouts]
    for layout, split, answers in zip(layouts, splits, met, strict=True):
        assert answers == [split.choose(f"c{number}", SALT, layout) for number in range(40)]
    for (before, after), (old, new) in zip(pairwise(layouts), pairwise(met), strict=True):
        gains = {arm: after.weigh(arm) - before.weigh(arm) for arm in AB_ARMS}
        assert count_movers(before, after) == sum(gain for gain in gains.values() if gain > 0)
        moves = [(left, taken) for left, taken in zip(old, new, strict=True) if left != taken]
        assert all(gains[left] < 0 < gains[taken] for left, taken in moves)  # type: ignore[index]


def _change_layouts(rng: random.Random, count: int) -> Iterator[Layout]:
    """Layouts of five arms, whose weights change together. At times an arm is dropped, and comes back."""
    arms = AB_ARMS[:5]
    layout = Layout.begin({"stable": 600_000} | dict.fromkeys(arms[1:], 100_000))
    yield layout
    for _ in range(count):
        weights = {arm: layout.weigh(arm) + rng.randint(0, 100_000) for arm in arms}
        weights[rng.choice(arms[1:])] *= rng.random() > 0.2
        whole = sum(weights.values())
        weights = {arm: weight * 1_000_000 // whole for arm, weight in weights.items()}
        weights["stable"] += 1_000_000 - sum(weights.values())
        layout = layout.change(weights)
        yield layout
