"""Scores as products of what is known after sessions with the items' embeddings: of all items, or of some."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from endcap.neural.threads import few_threads

Floats = NDArray[np.float32]
FEW = 32
"""Up to so many sessions are a moment's requests, not an evaluation: they are answered on one thread."""
_ITEMS_AT_ONCE = 1024
"""So many items' scores are turned round near the processor."""


def scores_of_all(known: Tensor, table: Tensor, bias: Tensor) -> Floats:
    """known · table + bias: float32 [n, n_items], from [n, width], [n_items, width] and [n_items]."""
    if len(known) <= FEW and known.device.type == "cpu":
        return _of_few(known.numpy(), table.numpy(), bias.numpy())
    with torch.inference_mode(), few_threads(known.numel() * len(table)):
        scores: Floats = torch.addmm(bias, known, table.T).cpu().numpy()
    return scores


def _of_few(known: Floats, table: Floats, bias: Floats) -> Floats:
    """The table is what takes time to read: so it is the left side of a product, which reads it once however few
    sessions there are."""
    scores = np.empty((len(known), len(table)), dtype=np.float32)
    if len(known) == 1:
        np.dot(table, known[0], out=scores[0])
        scores += bias
        return scores
    turned = np.ascontiguousarray(known.T)
    for begin in range(0, len(table), _ITEMS_AT_ONCE):
        some = slice(begin, begin + _ITEMS_AT_ONCE)
        np.add(np.dot(table[some], turned).T, bias[some], out=scores[:, some])
    return scores


def scores_of_some(known: Tensor, table: Tensor, bias: Tensor, items: Sequence[NDArray[np.int32]]) -> list[Floats]:
    """known · table + bias of items[i] after session i: float32 [len(items[i])] each; else as `scores_of_all`."""
    if table.device.type == "cpu":
        # Of few numbers NumPy is done before PyTorch has begun.
        states, rows, added = known.numpy(), table.numpy(), bias.numpy()
        return [
            np.take(rows, asked, axis=0) @ state + np.take(added, asked)
            for state, asked in zip(states, items, strict=True)
        ]
    with torch.inference_mode():
        counts = torch.tensor([len(asked) for asked in items])
        every = torch.from_numpy(np.concatenate([np.zeros(0, np.int32), *items]).astype(np.int64)).to(table.device)
        owner = torch.repeat_interleave(torch.arange(len(items)), counts).to(table.device)
        scores = (table[every] * known[owner]).sum(dim=1).add_(bias[every])
        return [part.numpy() for part in torch.split(scores.cpu(), counts.tolist())]
