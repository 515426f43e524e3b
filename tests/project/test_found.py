"""A look at each step of a pipeline: what is there is found, what is not is not made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import endcap
from endcap.runs import StepEnd
from endcap.store import open_store
from endcap.store.read_only import WriteAttempt
from endcap_components.features import features
from endcap_components.ingest import ingest
from endcap_components.refit import refit
from endcap_components.reuse import check_reuse
from endcap_components.train import train


def files(folder: Path) -> set[Path]:
    return {file for file in folder.rglob("*") if not file.name.startswith(".")}


def test_each_step_finds_what_it_made_and_makes_nothing(judged: endcap.Project, folder: Path) -> None:
    judged.refit()
    shop, recommender = judged.shop.model_dump(mode="json"), judged.recommender.model_dump(mode="json")
    made, store = judged._latest, judged.store.root
    before = files(folder)
    calls: list[tuple[Any, str, dict[str, Any]]] = [
        (ingest, "snapshot", {"shop": shop}),
        (features, "dataset", {"shop": shop, "snapshot": made["snapshot"]}),
        (train, "trained", {"recommender": recommender, "dataset": made["dataset"]}),
        (refit, "package", {"recommender": recommender, "verdict": made["verdict"]}),
    ]
    for component, name, given in calls:
        with check_reuse() as look:
            assert component.python_func(store=store, **given) == made[name]
        assert [event.reused for event in look.events if isinstance(event, StepEnd)] == [True]
    other = {**recommender, "seed": recommender["seed"] + 1}
    for component, given in (
        (ingest, {"shop": {**shop, "name": "another"}}),
        (train, {"recommender": other, "dataset": made["dataset"]}),
        (refit, {"recommender": other, "verdict": made["verdict"]}),
    ):
        with pytest.raises(WriteAttempt), check_reuse():
            component.python_func(store=store, **given)
    assert files(folder) == before


def test_the_look_ends_with_its_block(tmp_path: Path) -> None:
    with pytest.raises(WriteAttempt), check_reuse():
        open_store(str(tmp_path)).write_document("runs/x", {})
    open_store(str(tmp_path)).write_document("runs/x", {"run": "x"})
