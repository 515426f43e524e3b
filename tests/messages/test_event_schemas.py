"""Events for machines keep to the published schemas of CloudEvents and CDEvents, of which `schemas` has copies."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, get_args

import pytest
from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.validators import validator_for

from endcap.messages import Message
from endcap.messages.formats import format_message
from endcap.messages.message import Kind

SCHEMAS = Path(__file__).with_name("schemas")
FULL: dict[str, Any] = {
    "version": "7",
    "run": "home-1",
    "dataset": "s3://b/datasets/demo/d1",
    "metrics": {"ctr": -0.01},
    "action": "Look at it",
    "facts": {"pipeline": "training", "phase": "rising", "share": 0.05},
}


@cache
def make_validators() -> dict[str, Draft202012Validator]:
    """Make a validator for each type of event that the copies know; `custom` and `cloudevents` beside them."""
    validators = {}
    for file in SCHEMAS.glob("*.json"):
        schema = json.loads(file.read_text())
        types = schema["properties"].get("context", {"properties": {"type": {}}})["properties"]["type"].get("enum")
        for name in types or [file.stem]:
            validators[name] = validator_for(schema)(schema, format_checker=FormatChecker())
    return validators


@pytest.mark.parametrize("kind", get_args(Kind))
@pytest.mark.parametrize("values", [FULL, {"version": "7"}], ids=["full", "bare"])
@pytest.mark.parametrize("recommender", ["home", "späte käufe"])
def test_each_kind_of_message_keeps_to_the_schemas(kind: Kind, values: dict[str, Any], recommender: str) -> None:
    check_event(kind, recommender, values)


def test_a_failed_run_without_a_recommender_does_too() -> None:
    check_event("run.failed", "", {"run": "prepare-1", "facts": {"pipeline": "preparation"}})


def check_event(kind: Kind, recommender: str, values: dict[str, Any]) -> None:
    message = Message(
        id="rollout/home/1",
        kind=kind,
        time=datetime(2026, 11, 2, 8, 0, tzinfo=UTC),
        severity="info",
        title="a title",
        text="a sentence",
        recommender=recommender,
        **values,
    )
    _, body = format_message(message, "cloudevents")
    cloud_event = json.loads(body)
    validators = make_validators()
    validators["cloudevents"].validate(cloud_event)
    event = cloud_event["data"]
    validators.get(event["context"]["type"], validators["custom"]).validate(event)
    # The binding of one to the other: cloudevents-binding.md of the specification.
    context = {name: cloud_event[name] for name in ("id", "source", "type")}
    assert context == {name: event["context"][name] for name in context}
    assert (cloud_event["subject"], cloud_event["time"]) == (event["subject"]["id"], event["context"]["timestamp"])
