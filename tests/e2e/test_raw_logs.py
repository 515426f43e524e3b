"""From raw files, as shops' systems export them, to a ranking: by the specs that the guide shows, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import endcap
from tests.e2e.raw_logs import ITEMS, Visit, visits, write_ga4, write_invoices, write_otto
from tests.guides import specs

pytestmark = pytest.mark.slow
RECOMMENDER = next(one for one in specs("your-own-log.md") if one["kind"] == "Recommender")


def opened(folder: Path, shop: str) -> endcap.Project:
    """The guide's shop of this name with the guide's recommender, of a model that trains in a moment."""
    spec = next(one for one in specs("log-formats.md") if one["name"] == shop)
    own = {
        "name": shop,
        "shop": "shop.yaml",
        "model": {"name": "sequential-rules"},
        "baselines": [{"name": "popularity"}],
    }
    (folder / "shop.yaml").write_text(yaml.safe_dump(spec))
    (folder / "spec.yaml").write_text(yaml.safe_dump(RECOMMENDER | own))
    return endcap.open(folder / "spec.yaml", store=folder / "store", progress=lambda line: None)


def write_retail(folder: Path, walks: list[Visit]) -> dict[str, Any]:
    counts = write_invoices(folder / "data.csv", walks)
    return {"events": counts["sales"], "left_out": {"returns": counts["returns"]}, "id": "220{:02d}A"}


def write_analytics(folder: Path, walks: list[Visit]) -> dict[str, Any]:
    counts = write_ga4(folder / "ga4" / "events.jsonl", walks)
    # A session's start and a page without an item, for each visit.
    return {"events": counts["events"], "left_out": {"other_types": 2 * len(walks)}, "id": "A-{:02d}"}


def write_competition(folder: Path, walks: list[Visit]) -> dict[str, Any]:
    counts = write_otto(folder / "otto-recsys-train.jsonl", walks)
    return {"events": counts["events"], "left_out": {}, "id": "{}"}


@pytest.mark.parametrize(
    ("shop", "write"), [("retail", write_retail), ("ga4", write_analytics), ("otto", write_competition)]
)
def test_a_raw_export_becomes_a_ranking(
    tmp_path: Path, shop: str, write: Callable[[Path, list[Visit]], dict[str, Any]]
) -> None:
    walks = visits(400)
    expected = write(tmp_path, walks)
    project = opened(tmp_path, shop)
    snapshot = project.ingest()
    assert snapshot.facts["events"] == expected["events"]
    assert snapshot.facts["bad"].get("events", {}) == {}
    assert snapshot.facts["left_out"].get("events", {}) == expected["left_out"]
    dataset = project.features()
    assert (dataset.facts["sessions"], dataset.facts["items"]) == (len(walks), ITEMS)
    project.train()
    assert project.evaluate().passed
    project.refit()
    project.register()
    # Each item is mostly followed by the next one.
    ranked = project.rank(items=[expected["id"].format(7)], k=5)
    assert ranked.items["item"].to_pylist()[0] == expected["id"].format(8)
