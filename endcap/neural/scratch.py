"""Memory that steps overwrite again and again."""

from __future__ import annotations

import torch
from torch import Tensor


class Scratch:
    """Tensors by name that are kept from step to step.

    A step that allocates nothing has no page to fault in on a CPU, and fixed addresses for a CUDA graph.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._memory: dict[str, Tensor] = {}
        self._views: dict[tuple[str, tuple[int, ...]], Tensor] = {}

    def __call__(self, name: str, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the tensor of a name in a shape; it holds what was written there last.

        A name's memory grows if it is asked for in a larger shape. `dtype` counts the first time.
        """
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
