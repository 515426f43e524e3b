"""The JSON schemas that editors use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from endcap.spec.schema import build_schemas

FOLDER = Path(__file__).parents[2] / "pipelines" / "specs" / "schemas"


def fields(schema: Any, path: str = "") -> dict[str, dict[str, Any]]:
    """Every property of a schema, at any depth, by where it stands."""
    found = {}
    if isinstance(schema, dict):
        for name, field in schema.get("properties", {}).items():
            found[f"{path}/{name}"] = field
        for key, value in schema.items():
            found |= fields(value, f"{path}/{key}")
    elif isinstance(schema, list):
        for number, value in enumerate(schema):
            found |= fields(value, f"{path}/{number}")
    return found


def test_checked_in_schemas_are_up_to_date() -> None:
    assert {file.name: file.read_text() for file in FOLDER.glob("*.json")} == build_schemas()


def test_unknown_keys_are_refused_and_fields_described() -> None:
    recommender = json.loads(build_schemas()["recommender.schema.json"])
    assert recommender["else"]["additionalProperties"] is False
    assert recommender["else"]["required"] == ["apiVersion", "kind", "name", "shop", "model"]
    found = fields(recommender)
    assert (
        found["/$defs/VSKNNSpec/neighbours"]["description"]
        == "How many of the most similar sessions count (the paper's k)."
    )
    assert found["/$defs/VSKNNSpec/neighbours"]["minimum"] == 1
    assert not any("title" in field and "type" in field for field in found.values())


def test_parts_require_nothing_and_may_remove_keys() -> None:
    for name in ("shop", "recommender"):
        assert json.loads(build_schemas()[f"{name}.schema.json"])["then"] == {"$ref": f"{name}.overlay.schema.json"}
        text = build_schemas()[f"{name}.overlay.schema.json"]
        part = json.loads(text)
        assert '"required"' not in text
        assert part["properties"]["extends"]["type"] == "string"
        del part["properties"]["extends"]
        assert all({"type": "null"} in field["anyOf"] for field in fields(part).values())


def test_environments_take_no_unknown_place() -> None:
    schema = json.loads(build_schemas()["environments.schema.json"])
    found = fields(schema)
    assert found["/$defs/Environment/store"]["description"].startswith("The store of artifacts")
    assert schema["$defs"]["Environment"]["additionalProperties"] is False
    assert "extends" not in schema["properties"]
