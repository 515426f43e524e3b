"""Dropout's factors, drawn for many steps at once."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor


def draw_factors(
    shape: tuple[int, ...], rate: float, device: torch.device, rng: np.random.Generator, generator: torch.Generator
) -> Tensor:
    """Draw the factors of dropout: 0 at the given rate, else 1 / (1 - rate).

    Parameters
    ----------
    shape
        Shape of the result.
    rate
        Share of zeros, from 0 to 1.
    device
        Where the factors are put.
    rng, generator
        `rng` draws on a CPU, `generator` on any other device.

    Returns
    -------
    Tensor
        float32.
    """
    if device.type == "cpu":
        # From numpy: on a CPU many times as fast as PyTorch's.
        draws = np.frombuffer(rng.bytes(2 * math.prod(shape)), dtype=np.uint16)
        kept = torch.from_numpy((draws >= round(rate * 65536)).reshape(shape)).float()
    else:
        kept = torch.empty(shape, device=device).bernoulli_(1 - rate, generator=generator)
    return kept.div_(1 - rate)
