"""A served package with preprocessing answers as its model does offline, on the features that the dataset holds."""

from __future__ import annotations

import sys
from pathlib import Path

import httpx
import pytest

from endcap.features.dataset_files import read_customer_ids, read_refit_sessions
from endcap.features.split import slice_sessions
from endcap.registry.package import load_package
from endcap.store import Store
from endcap_serving.local.predictors import find_free_port
from tests.batch.given import package as packed
from tests.preprocessing.given import dataset, request, spec
from tests.serving.conftest import running, wait_until_ready


@pytest.mark.slow
def test_the_served_answer_is_the_offline_ranking(store: Store, tmp_path: Path) -> None:
    recommender, data = spec(), dataset(store)
    folder = store.fetch(packed(store, recommender, data))
    package = load_package(folder)
    _, log = read_refit_sessions(store.fetch(data), recommender)
    ids = read_customer_ids(store.fetch(data)).to_pylist()
    port, command = find_free_port(), [sys.executable, "-m", "tests.serving.many"]
    with (
        running([*command, str(port), f"own={folder}"], tmp_path / "log") as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client,
    ):
        wait_until_ready(client, process, tmp_path / "log")
        asked = [request(package, slice_sessions(log, row, row + 1), ids) for row in range(len(log))]
        together = client.post("/v1/models/own:predict", json={"instances": asked}).json()["predictions"]
        alone = [client.post("/v1/models/own:predict", json={"instances": [one]}).json() for one in asked[:40]]
    assert [one["predictions"][0]["items"] for one in alone] == [one["items"] for one in together[:40]]
    offline = package.model.recommend(log, 20, exclude=recommender.exclude)
    changed = 0
    for row, answer in enumerate(together):
        scored = [one["item"] for one in answer["items"] if one["score"] is not None]
        assert scored == [package.vocabulary.ids[item] for item in offline.items[row] if item >= 0]
        changed += len(scored) == 0
    # Some sessions are left empty, and the popular items answer; most are not.
    assert 0 < changed < len(log) / 2
    assert all(len(answer["items"]) for answer in together)
