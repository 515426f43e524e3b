"""The models that exist: made from a spec, or loaded from a folder."""

from __future__ import annotations

import importlib
from collections.abc import Collection, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from endcap.errors import EndcapError, IntegrityError, UserError
from endcap.models import files
from endcap.models.base import Model
from endcap.models.custom import find_model_class, make_own
from endcap.models.file_checks import check
from endcap.preprocessing import Preprocessing
from endcap.spec.model import CustomSpec, ModelSpec
from endcap.spec.preprocessing import PreprocessorSpec

# By name, so that PyTorch is imported only where a model of its is asked for. A fingerprint of code follows the names.
_PLACES = {
    "popularity": ("endcap.models.popularity", "Popularity"),
    "recent-popularity": ("endcap.models.recent_popularity", "RecentPopularity"),
    "sequential-rules": ("endcap.models.sequential_rules", "SequentialRules"),
    "vsknn": ("endcap.models.vsknn", "VSKNN"),
    "ease": ("endcap.models.ease", "EASE"),
    "item-knn": ("endcap.models.item_knn", "ItemKNN"),
    "gru4rec": ("endcap.models.gru4rec", "GRU4Rec"),
    "neumf": ("endcap.models.neumf", "NeuMF"),
    "sasrec": ("endcap.models.sasrec", "SASRec"),
    "blend": ("endcap.models.blend", "Blend"),
    "stacked": ("endcap.models.stacked", "Stacked"),
    "preprocessed": ("endcap.models.preprocessed", "Preprocessed"),
}

_OF_PARTS = ("blend", "preprocessed")
"""Those whose folder holds other models and no tensors."""

_listed: ContextVar[frozenset[str] | None] = ContextVar("_listed", default=None)
"""Classes of one's own that may be imported while a model is loaded, by its members too; None: nothing is loaded."""


def make(spec: ModelSpec, preprocessing: Sequence[PreprocessorSpec] = ()) -> Model:
    """Make a model that is not fitted yet.

    Parameters
    ----------
    spec
        The model's parameters. The class of a custom spec is imported: a recommender's check has seen it on the list.
        While a model is loaded, the classes that `load` allows count instead.
    preprocessing
        Steps that sessions pass through before the model; none: the model is returned as it is.

    Raises
    ------
    UserError
        The class is not listed, is not installed here, or is no model.
    SpecError
        The class does not take its parameters.
    """
    if preprocessing:
        behind: Any = _find_class("preprocessed")
        model: Model = behind(Preprocessing.of(preprocessing), make(spec))
        return model
    if isinstance(spec, CustomSpec):
        if _listed.get() is not None:
            _refuse_unlisted(spec.path)
        return make_own(spec)
    return _find_class(spec.name)(spec)


def load(folder: Path, classes: Collection[str] | None = None) -> Model:
    """Load the fitted model that `Model.save` wrote into a folder.

    Parameters
    ----------
    folder
        The model's folder.
    classes
        Your own classes that may be imported, as the recommender lists them; None: none, or while a blend is loaded the
        classes of that call.

    Raises
    ------
    IntegrityError
        There is no model, or its files are damaged.
    UserError
        Its class is not listed, or not installed here.
    """
    if classes is not None or _listed.get() is None:
        token = _listed.set(frozenset(classes or ()))
        try:
            return load(folder)
        finally:
            _listed.reset(token)
    description = files.describe(folder)
    name = description["name"]
    if name == files.CUSTOM:
        path = str(description.get("class"))
        _refuse_unlisted(path)
        return find_model_class(path).load(folder)
    if not isinstance(name, str) or name not in _PLACES:
        raise IntegrityError(
            f"{folder} holds a model {name!r}, unknown to this version; known: {', '.join(_PLACES)}",
            code="models.unknown",
            path=str(folder),
            found=name,
            allowed=list(_PLACES),
        )
    # Whatever a damaged file makes of a model's own code, it is said as one.
    try:
        check(name, description, {} if name in _OF_PARTS else files.tensors(folder))
        return _find_class(name).load(folder)
    except (EndcapError, MemoryError):
        raise
    except Exception as error:
        raise files.make_damaged_error(folder, error) from error


def list_allowed_classes() -> frozenset[str]:
    """Return your own classes that may be imported while a model is loaded."""
    return _listed.get() or frozenset()


def _refuse_unlisted(path: str) -> None:
    allowed = sorted(list_allowed_classes())
    if path not in allowed:
        raise UserError(
            f"the model is of the class {path}, which its recommender does not list (it lists "
            f"{', '.join(allowed) or 'none'}), so it is not imported; if you trust it, add it to the "
            f"recommender's spec, classes: [{', '.join([*allowed, path])}], and run again",
            code="models.class-unlisted",
            found=path,
            allowed=allowed,
        )


def _find_class(name: str) -> type[Model]:
    module, attribute = _PLACES[name]
    kind: type[Model] = getattr(importlib.import_module(module), attribute)
    return kind
