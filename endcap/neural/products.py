"""Scores as products of the states after sessions with the items' embeddings: of all items, or of some."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from endcap.neural.threads import HEAVY, limit_threads

Floats = NDArray[np.float32]
FEW = 32
"""Up to so many sessions are a moment's requests, not an evaluation: they are answered on one thread."""
_ITEMS_AT_ONCE = 1024
"""So many items' scores are turned round near the processor."""


def score_all(known: Tensor, table: Tensor, bias: Tensor) -> Floats:
    """Compute the scores of all items: known · table + bias.

    Parameters
    ----------
    known
        [n, width], the states.
    table
        [n_items, width], the items' embeddings.
    bias
        [n_items].

    Returns
    -------
    numpy.ndarray
        float32 [n, n_items].
    """
    work = known.numel() * len(table)
    if len(known) <= FEW and known.device.type == "cpu":
        return _score_few(known.numpy(), table.numpy(), bias.numpy(), torch.get_num_threads() if work >= HEAVY else 1)
    with torch.inference_mode(), limit_threads(work):
        scores: Floats = torch.addmm(bias, known, table.T).cpu().numpy()
    return scores


def _score_few(known: Floats, table: Floats, bias: Floats, threads: int) -> Floats:
    """Score all items after a few sessions.

    Reading the table takes most of the time. So it is the left side of a product, which reads it once however few
    sessions there are, and threads share it.
    """
    scores = np.empty((len(known), len(table)), dtype=np.float32)
    transposed = np.ascontiguousarray(known.T)
    # Of one session, whose scores need no turning, a product may be as long as it likes.
    size = _ITEMS_AT_ONCE if len(known) > 1 else max(1, -(-len(table) // threads))

    def fill(number: int) -> None:
        for begin in range(number * size, len(table), threads * size):
            part = slice(begin, begin + size)
            np.add(np.dot(table[part], transposed).T, bias[part], out=scores[:, part])

    if threads == 1:
        fill(0)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(fill, range(threads)))
    return scores


def score_some(known: Tensor, table: Tensor, bias: Tensor, items: Sequence[NDArray[np.int32]]) -> list[Floats]:
    """Compute the scores of items[i] after session i: known · table + bias.

    Parameters
    ----------
    known
        [n, width], the states.
    table
        [n_items, width], the items' embeddings.
    bias
        [n_items].
    items
        n arrays of item indices.

    Returns
    -------
    list of numpy.ndarray
        float32 [len(items[i])] each.
    """
    if table.device.type == "cpu":
        # Of few numbers NumPy is done before PyTorch has begun.
        states, rows, biases = known.numpy(), table.numpy(), bias.numpy()
        return [
            np.take(rows, indices, axis=0) @ state + np.take(biases, indices)
            for state, indices in zip(states, items, strict=True)
        ]
    with torch.inference_mode():
        counts = torch.tensor([len(indices) for indices in items])
        listed = torch.from_numpy(np.concatenate([np.zeros(0, np.int32), *items]).astype(np.int64)).to(table.device)
        owner = torch.repeat_interleave(torch.arange(len(items)), counts).to(table.device)
        scores = (table[listed] * known[owner]).sum(dim=1).add_(bias[listed])
        return [part.numpy() for part in torch.split(scores.cpu(), counts.tolist())]
