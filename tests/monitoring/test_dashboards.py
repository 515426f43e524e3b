"""The chart's dashboards keep to Grafana's schema, of which `schemas` has a copy.

The copy is from Grafana's Foundation SDK (grafana/grafana-foundation-sdk, Apache-2.0), without descriptions.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator

from tests.monitoring.prometheus import CHART

FILES = sorted((CHART / "monitoring" / "dashboards").glob("*.json"))
SCHEMAS = Path(__file__).with_name("schemas")
Json = dict[str, Any]


@cache
def read_schema(name: str, definition: str) -> Draft7Validator:
    schema = json.loads((SCHEMAS / f"{name}.json").read_text())
    return Draft7Validator({**schema, "$ref": f"#/definitions/{definition}"})


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_dashboard_keeps_to_grafanas_schema(file: Path) -> None:
    dashboard = json.loads(file.read_text())
    read_schema("dashboard", "Dashboard").validate(dashboard)
    for panel in dashboard["panels"]:
        if panel["type"] == "row":
            read_schema("dashboard", "RowPanel").validate(panel)
            continue
        read_schema("dashboard", "Panel").validate(panel)
        read_schema(panel["type"], "Options").validate(panel["options"])
        if panel["type"] == "timeseries":
            read_schema("timeseries", "FieldConfig").validate(panel["fieldConfig"]["defaults"]["custom"])
        for target in panel["targets"]:
            read_schema("prometheus", "Dataquery").validate(target)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_panels_do_not_overlap_and_have_ids_of_their_own(file: Path) -> None:
    dashboard = json.loads(file.read_text())
    cells: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        own = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not own & cells
        assert place["x"] + place["w"] <= 24
        cells |= own
    numbers = [panel["id"] for panel in dashboard["panels"]]
    assert len(numbers) == len(set(numbers))
    assert dashboard["uid"] == f"endcap-{file.stem}"


def test_the_schema_refuses_what_grafana_does_not_know() -> None:
    dashboard = json.loads(FILES[0].read_text())
    dashboard["panels"][1]["titel"] = "x"
    assert not read_schema("dashboard", "Panel").is_valid(dashboard["panels"][1])
