"""The checked-in recommenders on the logs they are for, against published and measured references."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from endcap.evaluation import judge
from endcap.events import ingest
from endcap.features import build
from endcap.spec.load import load
from endcap.store import Store
from endcap.training import train

pytestmark = pytest.mark.slow
SPECS = Path(__file__).parents[2] / "pipelines" / "specs"


# The blend as it is checked in, but for its search, the size of its networks, the length of their training, and the
# validation part that weighs its members, of which a few hours are enough here.
GRU4REC = ("max_epochs=1", "batch_size=256", "width=32")
SASREC = ("max_epochs=1", "width=32")
QUICK = (
    "search=null",
    "split.validation=3h",
    *(f"model.members.gru4rec.{key}" for key in GRU4REC),
    *(f"model.members.sasrec.{key}" for key in SASREC),
)


def judged(name: str, store: Store, *sets: str) -> dict[str, Any]:
    """What the verdict on a recommender's model holds."""
    loaded = load(SPECS / f"{name}.yaml", sets=sets)
    dataset = build(loaded.shop, ingest(loaded.shop, store), store)
    trained = train(loaded.recommender, dataset, store)
    facts: dict[str, Any] = store.manifest(judge(loaded.recommender, dataset, trained, store))["facts"]
    return facts


def test_rsc15_agrees_with_its_references(shared_data: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENDCAP_DATA", str(shared_data))
    facts = judged("rsc15", store, *QUICK)
    assert (facts["predictions"], facts["items"], facts["counts"]["training"]["events"]) == (10_152, 2_933, 70_278)
    for model, hit_rate, mrr in (("vsknn", 0.6835, 0.3583), ("sequential-rules", 0.6183, 0.3480)):
        assert facts["metrics"][model]["hr@20"] >= hit_rate - 0.003
        assert facts["metrics"][model]["mrr@20"] >= mrr - 0.003
    assert facts["metrics"]["challenger"]["hr@20"] > 0.6


def test_serenade_agrees_with_its_reference(shared_data: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENDCAP_DATA", str(shared_data))
    facts = judged("serenade", store, *QUICK)
    assert (facts["predictions"], facts["items"]) == (931, 18_009)
    assert facts["metrics"]["vsknn"]["hr@20"] >= 0.6638 - 0.01
    assert facts["metrics"]["vsknn"]["mrr@20"] >= 0.3419 - 0.01
    member = facts["metrics"].get("challenger/vsknn")  # where it has a weight
    assert member is None or member["hr@20"] == facts["metrics"]["vsknn"]["hr@20"]
    assert facts["metrics"]["challenger"]["hr@20"] > 0.6


def test_diginetica_is_read_in_its_published_layout(
    shared_data: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENDCAP_DATA", str(shared_data))
    facts = judged("diginetica", store)
    assert facts["passed"]
    assert facts["metrics"]["challenger"]["hr@20"] > facts["metrics"]["sequential-rules"]["hr@20"]
