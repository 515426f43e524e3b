"""Models behind one contract: `make` one from its spec, `fit`, `score`, `recommend`, `save`, `load`."""

from endcap.models.base import FitReport, Fitting, Model, ModelState
from endcap.models.catalogue import load, make
from endcap.models.ranking import NO_ITEM, Ranking, mask_excluded, top
from endcap.models.validation import Validation

__all__ = [
    "NO_ITEM",
    "FitReport",
    "Fitting",
    "Model",
    "ModelState",
    "Ranking",
    "Validation",
    "load",
    "make",
    "mask_excluded",
    "top",
]
