"""Memory that a step writes into again and again."""

from __future__ import annotations

import torch
from torch import Tensor


class Scratch:
    """Tensors by name, kept from step to step: asked for in another shape, a name's memory grows at most once.

    A step that allocates nothing has no page to fault in on a CPU, and fixed addresses for a CUDA graph.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._memory: dict[str, Tensor] = {}
        self._views: dict[tuple[str, tuple[int, ...]], Tensor] = {}

    def __call__(self, name: str, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """The tensor of that name in this shape; what it holds is whatever was last written there."""
        view = self._views.get((name, shape))
        if view is None:
            size = 1
            for extent in shape:
                size *= extent
            memory = self._memory.get(name)
            if memory is None or memory.numel() < size:
                memory = self._memory[name] = torch.zeros(size, device=self.device, dtype=dtype)
                self._views = {key: view for key, view in self._views.items() if key[0] != name}
            view = self._views[name, shape] = memory[:size].view(shape)
        return view
