"""Your own models: classes outside Endcap, which a recommender's spec names by their import paths."""

from __future__ import annotations

from endcap.errors import UserError
from endcap.models.base import Model
from endcap.models.files import description as description
from endcap.spec.custom import find_class, list_custom_models, load_custom_class, parse_parameters
from endcap.spec.model import CustomSpec, ModelSpec
from endcap.spec.preprocessing import PreprocessorSpec
from endcap.store.code import read_installed_source


def find_model_class(path: str) -> type[Model]:
    """Return the model class of an import path.

    Raises
    ------
    UserError
        There is no such class, it is no complete model, or its own path is another one.
    """
    kind: type[Model] = load_custom_class(path, Model, "model", "docs/own-model.md")  # type: ignore[type-abstract]
    missing = []
    if kind.save is Model.save and kind.get_state is Model.get_state:
        missing.append("get_state")
    if kind.load.__func__ is Model.load.__func__ and kind.set_state is Model.set_state:  # type: ignore[attr-defined]
        missing.append("set_state")
    if missing:
        raise UserError(
            f"{path} is no whole model: it lacks {', '.join(missing)}, see docs/own-model.md",
            code="spec.class-incomplete",
            path=path,
            missing=missing,
        )
    return kind


def make_own(spec: CustomSpec) -> Model:
    """Make a model of a class of your own. Raises UserError and SpecError, see `make`."""
    kind = find_model_class(spec.path)
    return kind(parse_parameters(spec.path, kind, spec.parameters))


def find_own_modules(*specs: ModelSpec | PreprocessorSpec) -> list[str]:
    """Return the modules of your own classes among these specs, for fingerprints.

    Raises
    ------
    UserError
        A module is not installed here.
    """
    steps = [spec.path for spec in specs if isinstance(spec, PreprocessorSpec)]
    models = [
        spec.path for spec in list_custom_models(spec for spec in specs if not isinstance(spec, PreprocessorSpec))
    ]
    return sorted({_find_module(path) for path in [*models, *steps]})


def _find_module(path: str) -> str:
    find_class(path)
    module = path.partition(":")[0]
    if read_installed_source(module) is not None:
        return module
    raise UserError(
        f"{path}: its module has no source file here, so that a change of it could not be seen",
        code="models.class-without-source",
        path=path,
    )
