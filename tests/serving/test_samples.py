"""Request samples of a real predictor: each can be ranked again, bit for bit, and a kill loses the open file alone."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest

from endcap.deploy import Deployment, Target
from endcap.deploy.state import write_state
from endcap.features.view import Vocabulary
from endcap.online import OnlineStore, RecentEvent, open_online
from endcap.pseudonyms import KEY, Pseudonymiser
from endcap.registry.package import load_package, write_package
from endcap.rules import Catalogue, publish_catalogue
from endcap.samples import SampledRequest, read_catalogue, read_samples
from endcap.samples.files import decode_file
from endcap.samples.key_file import open_pseudonymiser
from endcap.samples.places import open_place
from endcap.samples.reading import list_files
from endcap.spec import Recommender
from endcap.spec.rules import Rules
from endcap.store import Store, open_store
from endcap_serving.local.predictors import find_free_port
from endcap_serving.local.serve import serving
from tests.serving.conftest import N_ITEMS, NOON, Shop, recommender, running, wait_until_ready

pytestmark = pytest.mark.slow
SECRET = "a key that only these tests have"
PSEUDONYMS = Pseudonymiser(SECRET.encode())
WEEK = timedelta(days=7)
RULES = Rules.model_validate({"owned": {"types": ["purchase"]}})


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return open_store(str(tmp_path_factory.mktemp("store")))


@pytest.fixture(scope="module")
def package(shop: Shop, store: Store) -> Path:
    """A package whose recommender samples every ranking."""
    values = recommender("sequential-rules").model_dump(mode="json")
    values["serving"]["samples"] = {"share": 1.0, "most_per_second": 1000}
    with store.publish("packages/shoes", "sampled") as draft:
        write_package(
            draft.path,
            model=shop.fitted["sequential-rules"],
            vocabulary=Vocabulary(shop.ids),
            items=pa.table({"item": shop.ids, "category": ["boots"] * N_ITEMS}),
            recommender=Recommender.model_validate(values),
            customers=pa.array([], pa.string()),
            lineage={},
        )
    return store.fetch(draft.address)


@contextmanager
def sampling_predictor(
    package: Path, folder: Path, age: float, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[httpx.Client, int, OnlineStore]]:
    """A predictor that writes its samples to a folder: a client, the process's id, and the online store."""
    port, log = find_free_port(), folder / "log"
    address = f"sqlite:///{folder}/online.db"
    store = open_online(address, shop="demo", timeout=30.0)
    publish_catalogue(store, Catalogue(RULES, blacklist=frozenset({"x"}), read_time=int(time.time() * 1000)))
    options: dict[str, Any] = {
        "--model-name": "shoes",
        "--package": package,
        "--version": 12,
        "--host": "127.0.0.1",
        "--port": port,
        "--online": address,
        "--online-timeout": 20,
        "--samples": folder / "samples",
        "--samples-age": age,
    }
    words = [str(word) for option in options.items() for word in option]
    monkeypatch.setenv(KEY, SECRET)
    with (
        running([sys.executable, "-m", "endcap_serving.predictor", *words], log) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client,
        store,
    ):
        wait_until_ready(client, process, log)
        yield client, process.pid, store


def ask(client: httpx.Client, *instances: dict[str, Any]) -> list[dict[str, Any]]:
    answer = client.post("/v1/models/shoes:predict", json={"instances": list(instances)})
    assert answer.status_code == 200, answer.text
    predictions: list[dict[str, Any]] = answer.json()["predictions"]
    return predictions


def test_each_sample_is_what_was_answered_and_can_be_ranked_again(
    package: Path, shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sampling_predictor(package, tmp_path, 3600.0, monkeypatch) as (client, _, store):
        events = [RecentEvent(shop.ids[5], NOON), RecentEvent(shop.ids[7], NOON + 60_000)]
        store.append({"customer:ann": events, "session:ann|s1": events[:1]}, keep=WEEK)
        store.add("owned", {"customer:ann": [shop.ids[8], "gone"]}, keep=None)
        store.write(
            "lists/shoes/12",
            "b1",
            {"bob": b'{"items":["%s"],"scores":[0.5]}' % shop.ids[1].replace('"', '\\"').encode()},
        )
        store.publish("lists/shoes/12", "b1")
        instances: list[dict[str, Any]] = [
            {"items": [shop.ids[3]], "k": 7},
            {"customer": "ann"},
            {"customer": "ann", "session": "s1", "filter": {"category": "boots"}},
            {"customer": "cleo"},
            {"events": [{"item": shop.ids[9], "time": NOON}], "candidates": [shop.ids[4], "new", shop.ids[10]]},
            {"customer": "bob", "precomputed": True, "k": 1},
        ]
        answers = [answer for instance in instances for answer in ask(client, instance)]
        answers += ask(client, *instances[:3])
        page = client.get("/metrics").text
        assert 'endcap_request_samples_total{outcome="queue-full"} 0.0' in page
    # The predictor was asked to end, and has ended.
    address = str(tmp_path / "samples")
    samples = {sample.ranking_id: sample for sample in read_samples(address, "shoes")}
    assert samples.keys() == {answer["ranking_id"] for answer in answers}
    in_order = [samples[answer["ranking_id"]] for answer in answers]
    for sample, answer in zip(in_order, answers, strict=True):
        assert sample.items == [ranked["item"] for ranked in answer["items"]]
        assert sample.unknown == answer["unknown"]
        assert sample.fallback == answer.get("fallback", {}).get("reason")
        assert (sample.version, sample.variant, sample.recommender) == ("12", "stable", "shoes")
    sources = [sample.events_source for sample in in_order[:6]]
    assert sources == ["request", "customer", "session", "none", "request", "none"]
    assert [sample.number for sample in in_order[6:]] == [0, 1, 2]
    assert in_order[1].events == events
    assert in_order[1].owned == sorted([shop.ids[8], "gone"])
    assert in_order[5].precomputed
    assert_ranked_again(package, address, in_order)
    (file,) = list_files(open_place(address), "shoes")
    content = (tmp_path / "samples" / file.name).read_bytes()
    assert decode_file(content, file.name)[1].ended
    # The ids of shoppers are nowhere.
    assert in_order[1].customer == PSEUDONYMS.pseudonymise("ann")
    columns = decode_file(content, file.name)[0].select(["customer", "session", "request"]).to_pylist()
    assert not any('"ann"' in str(row) or "'ann'" in str(row) for row in columns)


def assert_ranked_again(package: Path, address: str, samples: list[SampledRequest]) -> None:
    """Rank all samples in one batch, and compare items and scores, bit for bit."""
    (version,) = {sample.catalogue for sample in samples}
    catalogue = read_catalogue(address, "shoes", version)
    assert catalogue is not None
    ranker = load_package(package).ranker.with_catalogue(catalogue)
    for sample in samples:
        (answer,) = ranker.rank([sample.parse_request()], now=sample.time, contexts=[sample.make_context()])
        assert (answer.ids, answer.scores) == (sample.items, sample.scores)
        assert (answer.unknown, answer.reason, answer.precomputed) == (
            sample.unknown,
            sample.fallback,
            sample.precomputed,
        )


def test_a_kill_loses_the_open_file_alone_and_no_file_says_that_it_was_the_last(
    package: Path, shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = str(tmp_path / "samples")
    with sampling_predictor(package, tmp_path, 2.0, monkeypatch) as (client, pid, _):
        (answer,) = ask(client, {"items": [shop.ids[3]]})
        deadline = time.monotonic() + 60
        while not (files := list_files(open_place(address), "shoes")):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        ask(client, {"items": [shop.ids[4]]})
        os.kill(pid, signal.SIGKILL)
    remaining = list_files(open_place(address), "shoes")
    assert files[0] in remaining
    samples = list(read_samples(address, "shoes"))
    assert answer["ranking_id"] in {sample.ranking_id for sample in samples}
    described = [decode_file((tmp_path / "samples" / file.name).read_bytes(), file.name)[1] for file in remaining]
    assert not any(description.ended for description in described)


def test_what_serves_on_this_machine_keeps_samples_in_the_store_under_a_key_of_its_own(
    package: Path, store: Store, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(KEY, raising=False)
    target = Target(version="12", package=str(package))
    write_state(Deployment(recommender="shoes", stable=target, salt="0", changed=datetime.now(UTC)), store)
    with serving(store, "shoes") as address:
        sent = httpx.post(f"{address}/v1/events", json={"id": "e1", "item": shop.ids[5], "customer": "ann"}, timeout=30)
        assert sent.status_code == 200, sent.text
        with httpx.Client(base_url=address, timeout=30) as client:
            deadline = time.monotonic() + 60
            (of_nobody,) = ask(client, {"items": []})
            # The event reaches the online store a moment after it is accepted.
            while (answer := ask(client, {"customer": "ann"})[0])["items"] == of_nobody["items"]:
                assert time.monotonic() < deadline
                time.sleep(0.1)
    root = store.root.removeprefix("file://")
    samples = {sample.ranking_id: sample for sample in read_samples(f"{root}/samples", "shoes")}
    sample = samples[answer["ranking_id"]]
    pseudonymiser = open_pseudonymiser(store)
    assert pseudonymiser is not None
    assert sample.customer == pseudonymiser.pseudonymise("ann")
    assert ([event.item for event in sample.events], sample.events_source) == ([shop.ids[5]], "customer")
    assert sample.items == [ranked["item"] for ranked in answer["items"]]
