"""Scores of all items and of some, however many sessions and threads there are."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from endcap.neural import products
from endcap.neural.products import FEW, score_all, score_some

N_ITEMS, WIDTH = 2 * products._ITEMS_AT_ONCE + 77, 9


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("count", [0, 1, 5, FEW, FEW + 1])
def test_scores_are_products_plus_what_is_added(count: int, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "HEAVY", 0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    generator = torch.Generator().manual_seed(1)
    known, table = (torch.empty(rows, WIDTH).normal_(generator=generator) for rows in (count, N_ITEMS))
    bias = torch.empty(N_ITEMS).normal_(generator=generator)
    bias[::7] = -torch.inf
    expected = (known.double() @ table.double().T + bias).numpy()
    found = score_all(known, table, bias)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    asked = [np.arange(row, N_ITEMS, row + 1, dtype=np.int32) for row in range(count)]
    for row, scores in enumerate(score_some(known, table, bias, asked)):
        assert scores.dtype == np.float32
        np.testing.assert_allclose(scores, expected[row, asked[row]], rtol=1e-5, atol=1e-5)
