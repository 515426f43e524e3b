"""What a model is, in a few words: its name, and those of its settings that are not the usual ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from endcap.spec.model import BlendSpec, CustomSpec, ModelSpec

Json = dict[str, Any]
SHOWN = 3
"""Settings that a line has room for."""
_SPEC: TypeAdapter[ModelSpec] = TypeAdapter(ModelSpec)


def summarize_model(model: ModelSpec | Mapping[str, Any]) -> Json:
    """`name` and `settings` (those that differ from the defaults) of a spec, or of the document of one."""
    try:
        spec = _SPEC.validate_python(model) if isinstance(model, Mapping) else model
    except ValidationError:  # of another release
        assert isinstance(model, Mapping)
        return {
            "name": model.get("name", ""),
            "settings": {key: value for key, value in model.items() if key != "name"},
        }
    if isinstance(spec, BlendSpec):
        return {
            "name": spec.name,
            "members": {label: summarize_model(member) for label, member in spec.members.items()},
        }
    if isinstance(spec, CustomSpec):
        return {"name": spec.path.rpartition(":")[2], "settings": spec.parameters}
    document = spec.model_dump(mode="json", exclude_defaults=True)
    return {"name": spec.name, "settings": {key: value for key, value in document.items() if key != "name"}}


def describe_model(model: Mapping[str, Any], most: int | None = SHOWN) -> str:
    """A model of `summarize_model` in words: `gru4rec width=200 loss=bpr`. most: settings that are shown, None: all."""
    if members := model.get("members"):
        return f"{model['name']} of {', '.join(member['name'] for member in members.values())}"
    settings = [f"{name}={value}" for name, value in model.get("settings", {}).items()]
    more = ["…"] if most is not None and len(settings) > most else []
    return " ".join([model["name"], *settings[:most], *more])


def format_title(label: str, models: Mapping[str, Mapping[str, Any]], *, short: bool = False) -> str:
    """How a model is called: its label, and what it is where the label does not say that; short: without settings."""
    model = models.get(label)
    if model is None:
        return label
    text, version = describe_model(model), model.get("version")
    shown = f"{label} {version}" if version else label
    if label in (text, model["name"]):
        return label if short else text
    return f"{shown}: {model['name'] if short else text}"
