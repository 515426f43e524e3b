from __future__ import annotations

import numpy as np
import pytest

from endcap.evaluation.bootstrap import Bootstrap


def bootstrap(sums: list[np.ndarray], weights: np.ndarray, seed: int = 1, resamples: int = 2000) -> Bootstrap:
    """Of models with one metric, all with the same number of predictions a session."""
    both = np.stack([np.column_stack([weights, weights])] * len(sums)).astype(float)
    weight_of = np.zeros(1, dtype=np.int64)
    stacked = np.stack(sums)[:, :, None]
    return Bootstrap(stacked, both, weight_of, resamples=resamples, confidence=0.95, seed=seed)


def test_the_interval_of_a_mean_is_the_one_of_the_textbook() -> None:
    values = np.random.default_rng(0).normal(3, 1, 4000)
    interval = bootstrap([values], np.ones(4000)).estimate_value(0)
    assert interval.estimate[0] == pytest.approx(values.mean())
    error = 1.96 * values.std() / np.sqrt(4000)
    assert interval.lower[0] == pytest.approx(values.mean() - error, abs=error / 10)
    assert interval.upper[0] == pytest.approx(values.mean() + error, abs=error / 10)


def test_sessions_are_drawn_whole() -> None:
    """Ten equal predictions a session tell no more than one: the interval must not shrink."""
    values = np.random.default_rng(0).random(300)
    one, ten = (
        bootstrap([values], np.ones(300)).estimate_value(0),
        bootstrap([10 * values], np.full(300, 10)).estimate_value(0),
    )
    assert ten.lower == pytest.approx(one.lower)
    assert ten.upper == pytest.approx(one.upper)


def test_models_are_paired() -> None:
    generator = np.random.default_rng(0)
    base = generator.random(500)
    found = bootstrap([base + 0.1, base, base * 2], np.ones(500))
    difference = found.estimate_difference(0, 1)
    assert difference.lower[0] == pytest.approx(0.1)
    assert difference.upper[0] == pytest.approx(0.1)
    ratio = found.estimate_ratio(2, 1)
    assert (ratio.lower[0], ratio.estimate[0], ratio.upper[0]) == pytest.approx((2, 2, 2))


def test_one_seed_gives_one_result() -> None:
    values = np.random.default_rng(0).random(50)
    first, again, other = (bootstrap([values], np.ones(50), seed).estimate_value(0) for seed in (1, 1, 2))
    assert first.lower == again.lower
    assert first.lower != other.lower


def test_a_ratio_to_nothing_is_infinite_and_of_nothing_to_nothing_one() -> None:
    found = bootstrap([np.ones(20), np.zeros(20), np.zeros(20)], np.ones(20))
    assert found.estimate_ratio(0, 1).estimate[0] == found.estimate_ratio(0, 1).lower[0] == np.inf
    assert found.estimate_ratio(1, 2).upper[0] == 1
