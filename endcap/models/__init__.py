"""Models behind one contract: `make` one from its spec, `fit`, `score`, `recommend`, `save`, `load`."""

from endcap.models.base import NO_ITEM, FitReport, Fitting, Model, Ranking, mask_excluded, top
from endcap.models.catalogue import load, make
from endcap.models.validation import Validation

__all__ = [
    "NO_ITEM",
    "FitReport",
    "Fitting",
    "Model",
    "Ranking",
    "Validation",
    "load",
    "make",
    "mask_excluded",
    "top",
]
