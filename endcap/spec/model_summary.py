"""Summarise a model by its name and the parameters that differ from the defaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from endcap.spec.model import BlendSpec, CustomSpec, ModelSpec, StackedSpec

Json = dict[str, Any]
SHOWN = 3
"""The most parameters in a line."""
_SPEC: TypeAdapter[ModelSpec] = TypeAdapter(ModelSpec)


def summarize_model(model: ModelSpec | Mapping[str, Any]) -> Json:
    """Return a model's `name` and `settings`, which are the parameters that differ from the defaults."""
    try:
        spec = _SPEC.validate_python(model) if isinstance(model, Mapping) else model
    except ValidationError:  # another release wrote it
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
    if isinstance(spec, StackedSpec):
        document["scores"] = ",".join(source.recommender for source in spec.scores.values())
    return {"name": spec.name, "settings": {key: value for key, value in document.items() if key != "name"}}


def describe_model(model: Mapping[str, Any], most: int | None = SHOWN) -> str:
    """Format a summary of `summarize_model`, such as `gru4rec width=200`. most: how many settings; None for all."""
    if members := model.get("members"):
        return f"{model['name']} of {', '.join(member['name'] for member in members.values())}"
    settings = [f"{name}={value}" for name, value in model.get("settings", {}).items()]
    more = ["…"] if most is not None and len(settings) > most else []
    return " ".join([model["name"], *settings[:most], *more])


def format_title(label: str, models: Mapping[str, Mapping[str, Any]], *, short: bool = False) -> str:
    """Return a model's title: its label, and the model if the label is not its name. short: without settings."""
    model = models.get(label)
    if model is None:
        return label
    text, version = describe_model(model), model.get("version")
    shown = f"{label} {version}" if version else label
    if label in (text, model["name"]):
        return label if short else text
    return f"{shown}: {model['name'] if short else text}"
