"""Arms that are computed again from salt and shopper."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from endcap.errors import DataError
from endcap.experiments.splits import ARMS, TOTAL_WEIGHT, TrafficSplit, hash_salt, hash_shopper
from tests.refusals import refused

SALT = "a1b2"
SHOPPERS = [f"shopper-{number}" for number in range(20_000)]


def make_split(canary: float = 0.0, previous: float = 0.0, baseline: float = 0.0) -> TrafficSplit:
    weights = (round(share * TOTAL_WEIGHT) for share in (canary, previous, baseline))
    return TrafficSplit(hash_salt(SALT), *weights)


def test_the_hash_is_xxh64_of_salt_and_shopper() -> None:
    # The test vector of XXH64's specification for empty input.
    assert xxhash.xxh64_intdigest(b"") == 0xEF46DB3751D8E999
    assert hash_shopper("shopper-0", SALT) == xxhash.xxh64_intdigest(b"a1b2/shopper-0") % 1_000_000


def test_each_arm_gets_its_share_and_the_arms_get_everyone() -> None:
    split = make_split(canary=0.1, previous=0.02, baseline=0.05)
    counts = Counter(split.choose(shopper, SALT) for shopper in SHOPPERS)
    for arm in ARMS:
        share = split.probability(arm)
        assert abs(counts[arm] - share * len(SHOPPERS)) < 5 * (share * (1 - share) * len(SHOPPERS)) ** 0.5
    assert sum(map(split.probability, ARMS)) == pytest.approx(1)
    assert split.probability("baseline") == pytest.approx(0.05)
    assert split.probability("canary", among=("canary", "stable")) == pytest.approx(0.1 / 0.98)
    assert split.probability("stable", among=("stable", "baseline")) == pytest.approx(0.836 / 0.886)


def test_a_larger_canary_keeps_its_shoppers_and_takes_only_those_of_stable() -> None:
    small, large = make_split(canary=0.05, baseline=0.05), make_split(canary=0.5, baseline=0.05)
    for shopper in SHOPPERS:
        before, after = small.choose(shopper, SALT), large.choose(shopper, SALT)
        assert before == after or (before, after) == ("stable", "canary")


def test_a_third_arm_moves_the_shoppers_of_stable_alone() -> None:
    two, three = make_split(canary=0.1), make_split(canary=0.1, previous=0.03)
    moved = {(two.choose(shopper, SALT), three.choose(shopper, SALT)) for shopper in SHOPPERS}
    assert moved == {("canary", "canary"), ("stable", "stable"), ("stable", "previous")}
    four = make_split(canary=0.1, previous=0.03, baseline=0.05)
    moved = {(three.choose(shopper, SALT), four.choose(shopper, SALT)) for shopper in SHOPPERS}
    assert {after for before, after in moved if before != after} == {"baseline"}


def test_the_baseline_keeps_its_shoppers_through_rollouts_and_meets_each_rollout_alike() -> None:
    smaller, usual = make_split(baseline=0.02), make_split(canary=0.5, previous=0.02, baseline=0.05)
    chosen = {shopper for shopper in SHOPPERS if smaller.choose(shopper, SALT) == "baseline"}
    assert len(chosen) == pytest.approx(0.02 * len(SHOPPERS), rel=0.2)
    kept = {shopper for shopper in SHOPPERS if usual.choose(shopper, SALT) == "baseline"}
    assert chosen < kept, "a larger share keeps every shopper of the smaller one"
    for salt in ("another", "0", "a1b3"):
        rollout = replace(usual, salt_id=hash_salt(salt), canary=900_000)
        assert {shopper for shopper in SHOPPERS if rollout.choose(shopper, salt) == "baseline"} == kept
    # The two hashes know nothing of each other: a canary without a baseline takes its share of the baseline's, too.
    alone = make_split(canary=0.5)
    assert sum(alone.choose(shopper, SALT) == "canary" for shopper in kept) == pytest.approx(len(kept) / 2, rel=0.1)


def count_movers(before: TrafficSplit, after: TrafficSplit) -> int:
    """Count the places of the hash range whose arm differs."""
    edges = sorted({0, TOTAL_WEIGHT, *(e for s in (before, after) for e in (s.canary, TOTAL_WEIGHT - s.previous))})
    return sum(end - begin for begin, end in pairwise(edges) if before.find_arm(begin) != after.find_arm(begin))


def count_least_movers(before: TrafficSplit, after: TrafficSplit) -> int:
    """The total variation of two splits: no assignment of shoppers moves fewer."""
    return sum(max(0, after.weigh(arm) - before.weigh(arm)) for arm in ("canary", "stable", "previous"))


def test_the_arms_of_places_are_those_of_shoppers() -> None:
    split = make_split(canary=0.1, previous=0.3)
    for shopper in SHOPPERS[:1000]:
        assert split.choose(shopper, SALT) == split.find_arm(hash_shopper(shopper, SALT))


@settings(max_examples=1_000, deadline=None)
@given(st.tuples(*[st.integers(0, TOTAL_WEIGHT)] * 4))
def test_a_change_of_shares_moves_as_few_shoppers_as_there_can_be(weights: tuple[int, ...]) -> None:
    first, second = (
        TrafficSplit(hash_salt(SALT), canary=min(one), previous=TOTAL_WEIGHT - max(one))
        for one in (weights[:2], weights[2:])
    )
    # One arm after the other, as rollouts change shares.
    between = replace(first, canary=min(second.canary, TOTAL_WEIGHT - first.previous))
    assert count_movers(first, between) == count_least_movers(first, between) == abs(first.canary - between.canary)
    # Both at once.
    changes = (second.canary - first.canary, second.previous - first.previous)
    assert count_movers(first, second) <= sum(map(abs, changes))
    if changes[0] * changes[1] >= 0:
        assert count_movers(first, second) == count_least_movers(first, second)


def test_a_split_is_read_back_from_a_header_and_other_texts_are_none() -> None:
    split = make_split(canary=0.01, previous=0.02, baseline=0.03)
    assert TrafficSplit.from_text(split.to_text()) == split
    other_texts = ("", "x", split.to_text() + "0000", f"{split.salt_id}-900000-900000-0")
    assert [TrafficSplit.from_text(text) for text in other_texts] == [None] * 4


def test_weights_beyond_the_whole_and_another_salt_are_refused() -> None:
    with refused(DataError, "experiments.split-weights", most=TOTAL_WEIGHT):
        make_split(canary=0.9, previous=0.2)
    with refused(DataError, "experiments.split-weights", most=TOTAL_WEIGHT):
        make_split(baseline=1.1)
    with refused(DataError, "experiments.other-salt", found=hash_salt("other")):
        make_split(canary=0.5).choose("shopper", "other")
