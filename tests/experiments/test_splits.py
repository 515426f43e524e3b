"""Arms that are computed again from salt and shopper."""

from __future__ import annotations

from collections import Counter

import pytest
import xxhash

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
    assert sum(map(split.weigh, ARMS)) == TOTAL_WEIGHT
    assert split.probability("canary", among=("canary", "stable")) == pytest.approx(0.1 / 0.93)


def test_a_larger_canary_keeps_its_shoppers_and_takes_only_those_of_stable() -> None:
    small, large = make_split(canary=0.05, baseline=0.05), make_split(canary=0.5, baseline=0.05)
    for shopper in SHOPPERS:
        before, after = small.choose(shopper, SALT), large.choose(shopper, SALT)
        assert before == after or (before, after) == ("stable", "canary")


def test_a_third_arm_moves_the_shoppers_of_stable_alone() -> None:
    two, three = make_split(canary=0.1), make_split(canary=0.1, previous=0.03, baseline=0.05)
    moved = {(two.choose(shopper, SALT), three.choose(shopper, SALT)) for shopper in SHOPPERS}
    assert moved == {("canary", "canary"), ("stable", "stable"), ("stable", "previous"), ("stable", "baseline")}


def test_a_split_is_read_back_from_a_header_and_other_texts_are_none() -> None:
    split = make_split(canary=0.01, previous=0.02, baseline=0.03)
    assert TrafficSplit.from_text(split.to_text()) == split
    other_texts = ("", "x", split.to_text() + "0000", f"{split.salt_id}-900000-900000-0")
    assert [TrafficSplit.from_text(text) for text in other_texts] == [None] * 4


def test_weights_beyond_the_whole_and_another_salt_are_refused() -> None:
    with refused(DataError, "experiments.split-weights", most=TOTAL_WEIGHT):
        make_split(canary=0.9, baseline=0.2)
    with refused(DataError, "experiments.other-salt", found=hash_salt("other")):
        make_split(canary=0.5).choose("shopper", "other")
