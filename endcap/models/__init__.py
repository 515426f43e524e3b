"""Models behind one contract: `make` one from its spec, `fit`, `score`, `recommend`, `save`, `load`."""

from endcap.models.base import FitReport, Fitting, Model, ModelState
from endcap.models.catalogue import load, make
from endcap.models.ranking import NO_ITEM, RankedItems, mask_excluded, top
from endcap.models.validation import Validation

Ranking = RankedItems
"""The former name, for own models that import it."""

__all__ = [
    "NO_ITEM",
    "FitReport",
    "Fitting",
    "Model",
    "ModelState",
    "RankedItems",
    "Ranking",
    "Validation",
    "load",
    "make",
    "mask_excluded",
    "top",
]
