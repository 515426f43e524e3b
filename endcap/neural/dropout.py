"""Dropout's factors, drawn for many steps at once."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor


def draw_factors(
    shape: tuple[int, ...], rate: float, device: torch.device, rng: np.random.Generator, generator: torch.Generator
) -> Tensor:
    """What to multiply by: 0 at the given rate, else 1 / (1 - rate). On a device other than a CPU `generator` draws."""
    if device.type == "cpu":
        # From numpy: on a CPU many times as fast as PyTorch's.
        draws = np.frombuffer(rng.bytes(2 * math.prod(shape)), dtype=np.uint16)
        kept = torch.from_numpy((draws >= round(rate * 65536)).reshape(shape)).float()
    else:
        kept = torch.empty(shape, device=device).bernoulli_(1 - rate, generator=generator)
    return kept.div_(1 - rate)
