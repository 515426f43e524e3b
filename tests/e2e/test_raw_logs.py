"""From raw files, as shops' systems export them, to a ranking: by the specs that the guide shows, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import endcap
from endcap.errors import DataError
from tests.e2e.raw_logs import ITEMS, Visit, orders, visits, write_ga4, write_invoices, write_otto
from tests.guides import specs
from tests.refusals import refused

pytestmark = pytest.mark.slow
RECOMMENDER = next(one for one in specs("your-own-log.md") if one["kind"] == "Recommender")


def opened(folder: Path, shop: str, more: dict[str, Any]) -> endcap.Project:
    """The guide's shop of this name with the guide's recommender, of a model that trains in a moment."""
    spec = next(one for one in specs("log-formats.md") if one["name"] == shop)
    own = {
        "name": shop,
        "shop": "shop.yaml",
        "model": {"name": "sequential-rules"},
        "baselines": [{"name": "popularity"}],
    }
    (folder / "shop.yaml").write_text(yaml.safe_dump(spec))
    (folder / "spec.yaml").write_text(yaml.safe_dump(RECOMMENDER | own | more))
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
    walks = visits(700)
    expected = write(tmp_path, walks)
    # Lines of an invoice have one time; those of these are in the order of their visit.
    project = opened(tmp_path, shop, {"evaluation": {"order": "file"}} if shop == "retail" else {})
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


def test_the_order_in_which_a_till_sorts_lines_flatters_and_baskets_do_not(tmp_path: Path) -> None:
    """Half of a basket is any of 400 products: twenty of them are a twentieth of the catalogue."""
    write_invoices(tmp_path / "data.csv", orders(1000))

    def judged(**evaluation: Any) -> endcap.Verdict:
        more = {"evaluation": evaluation, "gate": [], "baselines": [{"name": "item-knn"}]}
        project = opened(tmp_path, "retail", more)
        project.ingest()
        project.features()
        project.train()
        return project.evaluate()

    flattered, hidden, following = (
        judged(order="file"),
        judged(protocol="basket"),
        judged(protocol="basket", basket="next"),
    )
    assert flattered.facts["equal_times"]["share"] == 1
    assert flattered.facts["metrics"]["challenger"]["hr@20"] > 0.4
    assert hidden.facts["metrics"]["challenger"]["hr@20"] < 0.12
    # What customers bought before says what they buy next; what they bought last does not.
    assert following.facts["metrics"]["item-knn"]["hr@20"] > 2 * following.facts["metrics"]["challenger"]["hr@20"]
    with refused(DataError, "features.one-moment-sessions"):
        judged()
