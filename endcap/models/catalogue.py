"""Which models there are: made from a spec, loaded from a folder."""

from __future__ import annotations

import importlib
from pathlib import Path

from endcap.errors import IntegrityError
from endcap.models import files
from endcap.models.base import Model
from endcap.spec.model import ModelSpec

# By name, so that PyTorch is imported only where a model of its is asked for.
_PLACES = {
    "popularity": ("endcap.models.popularity", "Popularity"),
    "recent-popularity": ("endcap.models.recent_popularity", "RecentPopularity"),
    "sequential-rules": ("endcap.models.sequential_rules", "SequentialRules"),
    "vsknn": ("endcap.models.vsknn", "VSKNN"),
    "gru4rec": ("endcap.models.gru4rec", "GRU4Rec"),
}


def make(spec: ModelSpec) -> Model:
    """A model with these parameters, not fitted yet."""
    return _class(spec.name)(spec)


def load(folder: Path) -> Model:
    """The fitted model that `Model.save` wrote into a folder. Raises IntegrityError where there is none."""
    name = files.describe(folder)["name"]
    if name not in _PLACES:
        raise IntegrityError(f"{folder} holds a model {name!r}, unknown to this version; known: {', '.join(_PLACES)}")
    return _class(name).load(folder)


def _class(name: str) -> type[Model]:
    module, attribute = _PLACES[name]
    found: type[Model] = getattr(importlib.import_module(module), attribute)
    return found
