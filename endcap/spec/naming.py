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


def named(model: ModelSpec | Mapping[str, Any]) -> Json:
    """`name` and `settings` (those that differ from the defaults) of a spec, or of the document of one."""
    try:
        spec = _SPEC.validate_python(model) if isinstance(model, Mapping) else model
    except ValidationError:  # of another release
        assert isinstance(model, Mapping)
        return {"name": model.get("name", ""), "settings": {key: one for key, one in model.items() if key != "name"}}
    if isinstance(spec, BlendSpec):
        return {"name": spec.name, "members": {label: named(member) for label, member in spec.members.items()}}
    if isinstance(spec, CustomSpec):
        return {"name": spec.path.rpartition(":")[2], "settings": spec.parameters}
    document = spec.model_dump(mode="json", exclude_defaults=True)
    return {"name": spec.name, "settings": {key: value for key, value in document.items() if key != "name"}}


def description(model: Mapping[str, Any]) -> str:
    """A model of `named` in words: `gru4rec width=200 loss=bpr`."""
    if members := model.get("members"):
        return f"{model['name']} of {', '.join(member['name'] for member in members.values())}"
    settings = [f"{name}={value}" for name, value in model.get("settings", {}).items()]
    more = ["…"] if len(settings) > SHOWN else []
    return " ".join([model["name"], *settings[:SHOWN], *more])


def title(label: str, models: Mapping[str, Mapping[str, Any]]) -> str:
    """How a row is called: its label, and what the model is where the label does not say it."""
    model = models.get(label)
    if model is None:
        return label
    told, version = description(model), model.get("version")
    shown = f"{label} {version}" if version else label
    return told if told.split(" ")[0] == label else f"{shown}: {told}"
