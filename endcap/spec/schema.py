"""JSON schemas of shops, recommenders and environments, by which editors complete and check the files.

Shops and recommenders also have a schema `<kind>.overlay.schema.json` for overlays and for files that extend another
file. It requires no key, and allows null everywhere, because null removes a key.
"""

from __future__ import annotations

import json
from typing import Any

from endcap.spec.base import Strict
from endcap.spec.environments import Environments
from endcap.spec.recommender import Recommender
from endcap.spec.shop import Shop

_DRAFT = "https://json-schema.org/draft/2020-12/schema"
_EXTENDS = {
    "type": "string",
    "description": "Another YAML file, relative to this one. This file is merged over it: maps key by key; lists and "
    "values replace those of the other file; null removes a key.",
}


def build_schemas() -> dict[str, str]:
    """Build the text of each schema, by its file name."""
    files = {}
    for kind in (Shop, Recommender):
        name = kind.__name__.lower()
        overlay = f"{name}.overlay.schema.json"
        files[f"{name}.schema.json"] = _format_schema(_build_schema(kind, overlay))
        files[overlay] = _format_schema(_build_overlay_schema(kind))
    environments = {"$schema": _DRAFT, "title": "Endcap environments", **_build_plain_schema(Environments)}
    files["environments.schema.json"] = _format_schema(environments)
    return files


def _build_schema(kind: type[Strict], overlay: str) -> dict[str, Any]:
    schema = _build_plain_schema(kind)
    definitions = schema.pop("$defs", {})
    return {
        "$schema": _DRAFT,
        "title": f"Endcap {kind.__name__.lower()}",
        "if": {"required": ["extends"]},
        "then": {"$ref": overlay},
        "else": schema,
        "$defs": definitions,
    }


def _build_overlay_schema(kind: type[Strict]) -> dict[str, Any]:
    schema: dict[str, Any] = _make_optional(_build_plain_schema(kind))
    schema["properties"]["extends"] = _EXTENDS
    return {"$schema": _DRAFT, "title": f"Endcap {kind.__name__.lower()}, a part of one", **schema}


def _build_plain_schema(kind: type[Strict]) -> dict[str, Any]:
    schema: dict[str, Any] = _drop_titles(kind.model_json_schema())
    return schema


def _drop_titles(schema: Any) -> Any:
    """Remove the titles of fields, which only repeat their names."""
    if isinstance(schema, list):
        return [_drop_titles(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {key: value for key, value in schema.items() if not (key == "title" and isinstance(value, str))}
    return {key: value if key == "default" else _drop_titles(value) for key, value in kept.items()}


def _make_optional(schema: Any) -> Any:
    """Change a schema so that no key is required, null is allowed for every key, and unions have no discriminator."""
    if isinstance(schema, list):
        return [_make_optional(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    loose: dict[str, Any] = {}
    for key, value in schema.items():
        if key in ("required", "discriminator", "default"):
            continue
        if key == "properties":
            loose[key] = {name: {"anyOf": [_make_optional(part), {"type": "null"}]} for name, part in value.items()}
        else:
            loose["anyOf" if key == "oneOf" else key] = _make_optional(value)
    return loose


def _format_schema(schema: dict[str, Any]) -> str:
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
