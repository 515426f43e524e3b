"""Finds out which device a model computes on."""

from __future__ import annotations

from endcap.models.base import Model
from endcap.models.preprocessed import unwrap


def find_device(model: Model) -> str:
    """Return `cpu`, or `cuda` and the GPU's name. A blend is on a GPU if one of its members is."""
    for part in (model, *model.members().values()):
        single = unwrap(part)
        # Of torch, which a model without a network need not have imported.
        device = getattr(single, "device", None) or getattr(getattr(single, "network", None), "device", None)
        if getattr(device, "type", "cpu") == "cuda":
            import torch

            return f"cuda: {torch.cuda.get_device_name(device)}"
    return "cpu"
