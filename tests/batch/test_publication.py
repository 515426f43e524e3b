"""Lists in the online store: published all at once, and taken back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from endcap.batch import name_lists_table, publish_lists, roll_back
from endcap.cli.main import main
from endcap.deploy.state import Target
from endcap.errors import NotFoundError, OnlineStoreError
from endcap.online import OnlineStore, open_online
from endcap.ranking import PrecomputedList, ShopperContext
from endcap.registry.package import load_package
from endcap.spec import Recommender
from tests.batch.conftest import Little
from tests.batch.given import NOW, FakeRegistry, made, of, package, rows
from tests.refusals import refused

SPEC = of("published")
TABLE = name_lists_table("published", "1")
NOWHERE = "redis://:secret@127.0.0.1:1"


@pytest.fixture
def online(tmp_path: Path) -> OnlineStore:
    return open_online(f"sqlite://{tmp_path}/online.sqlite", shop="shop", timeout=5.0)


def test_lists_are_published_and_rolled_back(little: Little, registry: FakeRegistry, online: OnlineStore) -> None:
    registry.versions["1"], store = little.package, little.store
    target = [Target(version="1", package=registry.versions["1"])]
    first = made(SPEC, store)
    lines: list[str] = []
    publish_lists(SPEC, [first], store, online, progress=lines.append)
    expected = rows(store, first.address)["c3"]
    (row,) = online.rows(TABLE, ["c3"])
    read = json.loads(row or b"")
    assert (read["items"], read["made"]) == (expected["items"], NOW)
    np.testing.assert_array_equal(*(np.array(one["scores"], np.float32) for one in (read, expected)))
    assert online.rows(TABLE, ["nobody"]) == [None]
    assert lines == ["version 1: 12 of 12 lists are written"]
    with refused(NotFoundError, "batch.nothing-before", recommender=SPEC.name, versions=["1"]):
        roll_back(SPEC, target, online)

    shorter = of("published", batch={"k": 2})
    second = made(shorter, store)
    # Another run was broken off while it wrote.
    online.write(TABLE, "half", {"c3": b"{}"})
    publish_lists(shorter, [second], store, online)
    assert online.published(TABLE) == second.key
    assert roll_back(SPEC, target, online) == [f"version 1: the lists {first.key} are published again"]
    assert online.rows(TABLE, ["c3"]) == [row]
    assert roll_back(SPEC, target, online) == [f"version 1: the lists {second.key} are published again"]

    # What is published already is not written again.
    again: list[str] = []
    publish_lists(shorter, [second], store, online, progress=again.append)
    assert again == []
    assert online.published(TABLE) == second.key


def test_a_request_for_the_published_list_has_its_answer_with_fallbacks_marked(
    little: Little, registry: FakeRegistry, online: OnlineStore
) -> None:
    store = little.store
    spec = of("answered", {"name": "sequential-rules"})
    registry.versions["1"] = package(store, spec, little.dataset, "rules")
    publish_lists(spec, [made(spec, store)], store, online)
    (row,) = online.rows(name_lists_table("answered", "1"), ["c0"])
    listed = json.loads(row or b"")
    assert None in listed["scores"]
    ranker = load_package(store.fetch(registry.versions["1"])).ranker
    request = ranker.parse({"customer": "c0", "precomputed": True, "k": 6})
    known = ShopperContext(stored_list=PrecomputedList(listed["items"], listed["scores"]))
    answer = ranker.rank([request], contexts=[known])[0].to_json()
    assert answer["precomputed"]
    assert answer["items"] == [
        {"item": item, "score": score, **({"fallback": True} if score is None else {})}
        for item, score in zip(listed["items"], listed["scores"], strict=True)
    ]


def test_what_was_never_published_is_no_way_back(little: Little, registry: FakeRegistry, online: OnlineStore) -> None:
    registry.versions["1"], store = little.package, little.store
    publish_lists(SPEC, [made(SPEC, store)], store, online)
    online.write(TABLE, "half", {"c3": b"{}"})
    with refused(NotFoundError, "batch.nothing-before", versions=["1"]):
        roll_back(SPEC, [Target(version="1", package="")], online)


def test_without_the_online_store_the_lists_stay_and_it_is_said_what_to_do(
    little: Little, registry: FakeRegistry
) -> None:
    registry.versions["1"], store = little.package, little.store
    found = made(SPEC, store)
    down = open_online(NOWHERE, shop="shop", timeout=0.2)
    with refused(OnlineStoreError, "batch.not-published", version="1", address=found.address) as caught:
        publish_lists(SPEC, [found], store, down)
    assert caught.value.fields["cause"]["code"] == "online.unavailable"
    assert "Run the same command again when the online store is back" in str(caught.value)
    assert "secret" not in json.dumps(caught.value.to_json())
    assert len(rows(store, found.address)) == 12


def files_of(folder: Path, spec: Recommender) -> Path:
    (folder / "shops").mkdir()
    shop = {"apiVersion": "endcap/v2", "kind": "Shop", "name": "shop"}
    columns = {"session": "session", "customer": "customer"}
    events = {"sources": [{"path": "events.csv"}], "columns": columns}
    (folder / "shops" / "shop.yaml").write_text(json.dumps({**shop, "events": events}))
    keys = {"apiVersion", "kind", "name", "shop", "model", "split", "batch"}
    (folder / "spec.yaml").write_text(spec.model_dump_json(include=keys, exclude_none=True))
    return folder / "spec.yaml"


def test_the_command_makes_publishes_and_rolls_back(
    little: Little, registry: FakeRegistry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    registry.versions["1"], store = little.package, little.store
    spec, place = str(files_of(tmp_path, of("by-command"))), store.root.removeprefix("file://")
    name = name_lists_table("by-command", "1")
    base = ["recommend", spec, "--store", place]
    main([*base, "--dataset", "newest"])
    told = capsys.readouterr()
    (address,) = store.list("recommendations/by-command")
    assert told.out.splitlines()[0] == f"version 1  {address}"
    assert "12 lists of up to 6" in told.out
    assert "published" in told.out
    online = open_online(f"sqlite://{place}/online.sqlite", shop="shop", timeout=5.0)
    assert online.published(name) == address.rpartition("/")[2]
    main([*base, "--dataset", "newest", "--set", "batch.k=2"])
    main([*base, "--roll-back"])
    assert "are published again" in capsys.readouterr().out
    assert online.published(name) == address.rpartition("/")[2]
    for wrong, said in (
        (["--dataset", "newest", "--online", NOWHERE], "Run the same command again when the online store is back"),
        (["--dataset", "newest", "--version", "7"], "by-command has no version 7"),
        (["--roll-back", "--online", "none"], "there is no online store in which to roll back"),
        (["--roll-back", "--workers", "2"], "--workers: does not go with --roll-back"),
        (["--on", "kfp", "--store", "s3://mine", "--customers", "some.csv"], "give s3://bucket/"),
        (
            ["--on", "kfp", "--store", "s3://mine", "--online", "redis://:secret@redis"],
            "put the address into the Secret",
        ),
    ):
        with pytest.raises(SystemExit) as stopped:
            main([*base, *wrong])
        assert stopped.value.code in (1, 2)
        assert said in capsys.readouterr().err
