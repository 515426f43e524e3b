"""The k best of a row are those of a full, stable sort, whatever the scores look like."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from endcap.models import top
from endcap.models import topk as module
from endcap.models.topk import NONE, find_best

Scores = NDArray[np.float32]
NOTHING = np.float32(-np.inf)


def full_sort(scores: Scores, k: int) -> NDArray[np.int64]:
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.where(np.take_along_axis(scores, order, axis=1) > -np.inf, order, NONE)


def sparse(values: Scores, rng: np.random.Generator) -> Scores:
    return np.where(rng.random(values.shape) < 0.9, NOTHING, values)


KINDS: dict[str, Callable[[Scores, np.random.Generator], Scores]] = {
    "all different": lambda values, rng: values,
    "few values": lambda values, rng: np.round(values),
    "mostly without an opinion": sparse,
    "one value": lambda values, rng: np.zeros_like(values),
    "both zeros": lambda values, rng: np.sign(np.round(values)) * np.float32(0),
    "tiny and huge": lambda values, rng: (
        values * np.float32(10) ** rng.integers(-40, 37, values.shape).astype(np.float32)
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_best_are_those_of_a_full_sort(kind: str) -> None:
    rng = np.random.default_rng(1)
    for width in (1, 2, 19, 20, 21, 100, 640, 641, 3000):
        for k in (1, 7, 20, 5000):
            scores = KINDS[kind](rng.normal(size=(5, width)).astype(np.float32), rng)
            assert find_best(scores, k).tolist() == full_sort(scores, k).tolist(), (width, k)


def test_rows_are_worked_on_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = np.round(np.random.default_rng(2).normal(size=(50, 100)) * 4).astype(np.float32)
    monkeypatch.setattr(module, "SCORES_AT_ONCE", 700)
    assert find_best(scores, 9).tolist() == full_sort(scores, 9).tolist()


def test_what_is_no_number_is_not_listed() -> None:
    scores = np.random.default_rng(3).normal(size=(4, 500)).astype(np.float32)
    scores[:, ::3] = np.nan
    assert find_best(scores, 5).tolist() == full_sort(np.where(np.isnan(scores), NOTHING, scores), 5).tolist()
    assert find_best(np.full((2, 40), np.nan, dtype=np.float32), 3).tolist() == [[NONE] * 3] * 2


def test_a_list_is_padded_to_its_length() -> None:
    found = top(np.array([[NOTHING, 1, 2]], dtype=np.float32), 5)
    assert found.items.tolist() == [[2, 1, -1, -1, -1]]
    assert found.scores.tolist() == [[2, 1, *[-np.inf] * 3]]
    assert top(np.zeros((0, 4), dtype=np.float32), 2).items.shape == (0, 2)
