"""Popularity on a real `endcap serve`: the baseline through a rollout, and the switch whatever is broken."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from endcap.cli.main import endcap
from endcap.deploy import Deployment, Target, give_share, promote_arm, read_state, switch_back, switch_to_popularity
from endcap.deploy.gateway_settings import GatewaySettings
from endcap.deploy.popularity import make_baseline
from endcap.deploy.state import make_salt, write_state
from endcap.experiments.ranking_token import RankingToken, TokenSigner
from endcap.experiments.splits import TrafficSplit, hash_salt, weigh_share
from endcap.spec import Recommender
from endcap.spec.serving import Baseline
from endcap.store import Store, open_store
from endcap_serving.local.serve import serving
from tests.serving.conftest import CATEGORIES, Shop, children, recommender, stored_shop

SHOPPERS = [f"shopper-{number}" for number in range(80)]
SHARE = 0.2
CLIENT = httpx.Client(timeout=10)


@pytest.fixture(scope="module")
def popular(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Shop, str, list[Any]]]:
    """Version 1 serves, beside popularity for a fifth of the shoppers; the shop, the address and the events."""
    shop = stored_shop(tmp_path_factory.mktemp("popular"), ("vsknn", "sequential-rules"))
    write_state(make_state(shop, shop.packages["vsknn"], SHARE), shop.store)
    events: list[Any] = []
    with serving(shop.store, "shoes", listener=events.append) as address:
        yield shop, address, events


def make_state(shop: Shop, package: str, share: float, name: str = "shoes") -> Deployment:
    return Deployment(
        recommender=name,
        stable=Target(version="1", package=package),
        baseline=make_baseline(with_baseline(share), package, shop.store) if share else None,
        salt=make_salt(name, "1"),
        terms=GatewaySettings(popular=tuple(shop.ids[:50])),
        changed=datetime.now(UTC),
    )


def with_baseline(share: float) -> Recommender:
    spec = recommender("vsknn")
    return spec.model_copy(update={"serving": spec.serving.model_copy(update={"baseline": Baseline(share=share)})})


def ask(address: str, shopper: str | None, **request: Any) -> dict[str, Any]:
    """The ranking that a shopper gets."""
    headers = {} if shopper is None else {"x-endcap-shopper": shopper}
    body = {"instances": [{"items": [], "k": 3, **request}]}
    answer = CLIENT.post(f"{address}/v1/models/shoes:predict", json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    (ranking,) = answer.json()["predictions"]
    assert answer.headers["x-endcap-variant"] == ranking["variant"]
    return dict(ranking)


def meet(address: str) -> dict[str, str]:
    """The version that each shopper meets."""
    return {shopper: ask(address, shopper)["model_version"] for shopper in SHOPPERS}


def wait_until(reached: Callable[[], bool], within: float = 60.0) -> None:
    deadline = time.monotonic() + within
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_baselines_shoppers_stay_before_in_and_after_a_rollout(popular: tuple[Shop, str, list[Any]]) -> None:
    shop, address, _ = popular
    before = meet(address)
    own = {shopper for shopper, version in before.items() if version == "popularity"}
    split = TrafficSplit("0" * 12, baseline=weigh_share(SHARE))
    assert own == {shopper for shopper in SHOPPERS if split.has_in_baseline(shopper)}
    assert set(before.values()) == {"1", "popularity"}
    # Two rollouts, so two salts.
    other = Target(version="2", package=shop.packages["sequential-rules"])
    state = give_share("shoes", other, 0.5, make_salt("shoes", "2"), shop.store)
    wait_until(lambda: ask(address, next(s for s in SHOPPERS if chosen(state, s) == "canary"))["model_version"] == "2")
    during = meet(address)
    assert {shopper for shopper, version in during.items() if version == "popularity"} == own
    assert during == {s: {"canary": "2", "stable": "1", "baseline": "popularity"}[chosen(state, s)] for s in SHOPPERS}
    baseline = make_baseline(with_baseline(SHARE), other.package, shop.store)
    state = promote_arm("shoes", "2", 0.2, GatewaySettings(popular=("x",)), shop.store, baseline=baseline)
    previous = next(s for s in SHOPPERS if chosen(state, s) == "previous")
    wait_until(lambda: ask(address, previous)["model_version"] == "1")
    after = meet(address)
    assert {shopper for shopper, version in after.items() if version == "popularity"} == own
    assert set(after.values()) == {"1", "2", "popularity"}
    # Its rankings are those of the list, with what no list can do, and their ids say where they count.
    shopper = min(own)
    ranking = ask(address, shopper, category=CATEGORIES[1])
    assert [item["item"] for item in ranking["items"]] == [shop.ids[1], shop.ids[4], shop.ids[7]]
    token = TokenSigner("shoes").read(ranking["ranking_id"])
    assert isinstance(token, RankingToken)
    assert (token.arm, token.answerer, token.version) == ("baseline", "model", "popularity")
    assert token.split is not None
    assert token.split.choose(shopper, state.salt) == "baseline"


def chosen(state: Deployment, shopper: str) -> str:
    weights = {
        name: weigh_share(arm.share)
        for name in ("canary", "previous", "baseline")
        if (arm := getattr(state, name)) is not None
    }
    return TrafficSplit(hash_salt(state.salt), **weights).choose(shopper, state.salt)


@pytest.mark.slow
def test_the_switch_gives_everyone_popularity_within_seconds_and_back(popular: tuple[Shop, str, list[Any]]) -> None:
    shop, address, _ = popular
    state = read_state("shoes", shop.store)
    stable = state.stable.version
    split = TrafficSplit("0" * 12, baseline=weigh_share(SHARE))
    of_baseline = next(shopper for shopper in SHOPPERS if split.has_in_baseline(shopper))

    def serve_both() -> bool:
        """Tell whether the stable version and popularity serve: without popularity its shoppers get the stable one."""
        return [ask(address, who)["model_version"] for who in (None, of_baseline)] == [stable, "popularity"]

    wait_until(serve_both)
    before = meet(address)
    runner = CliRunner()
    place = ["--store", shop.store.root]
    switched = runner.invoke(endcap, ["deploy", "shoes", "--popularity", "--by", "ann", "--why", "it lies", *place])
    assert switched.exit_code == 0, switched.output
    wait_until(lambda: ask(address, None)["model_version"] == "popularity")
    assert set(meet(address).values()) == {"popularity"}
    (status,) = json.loads(runner.invoke(endcap, ["status", "--json", *place]).stdout)
    assert (status["popularity"]["by"], status["popularity"]["why"]) == ("ann", "it lies")
    # What changes meanwhile is kept for afterwards, and does not take it back.
    assert give_share("shoes", Target(version="3", package=state.stable.package), 0.1, state.salt, shop.store).switch
    assert set(meet(address).values()) == {"popularity"}
    # A predictor that dies leaves its shoppers to the list.
    for pid, line in children(os.getpid()).items():
        if "--variant baseline" in line:
            os.kill(pid, signal.SIGKILL)
    assert {ask(address, shopper)["model_version"] for shopper in SHOPPERS[:50]} <= {"popularity", "fallback"}
    wait_until(lambda: ask(address, None)["model_version"] == "popularity")
    write_state(state, shop.store)
    wait_until(serve_both)
    assert meet(address) == before
    assert runner.invoke(endcap, ["deploy", "shoes", "--popularity", *place]).exit_code == 0
    assert runner.invoke(endcap, ["deploy", "shoes", "--no-popularity", *place]).exit_code == 0
    assert read_state("shoes", shop.store).switch is None


@pytest.mark.slow
def test_popularity_answers_where_the_model_is_broken_and_the_model_comes_back_with_its_repair(
    tmp_path: Path,
) -> None:
    shop = stored_shop(tmp_path, ("vsknn",))
    package = shop.packages["vsknn"]
    broken = [file for file in (shop.store.fetch(package) / "model").iterdir() if file.suffix == ".safetensors"]
    kept = {file: file.read_bytes() for file in broken}
    assert kept
    for file in broken:
        file.chmod(0o644)
        file.write_bytes(bytes(len(kept[file])))
    write_state(make_state(shop, package, 0.0), shop.store)
    outcome = switch_to_popularity("shoes", shop.store, by="ann")
    assert outcome.shortfall is None
    assert outcome.state.switch is not None
    events: list[Any] = []
    with serving(shop.store, "shoes", listener=events.append) as address:
        assert ask(address, "anybody", category=CATEGORIES[2])["model_version"] == "popularity"
        switch_back("shoes", shop.store)
        time.sleep(1)
        assert ask(address, "anybody")["model_version"] == "popularity", "nothing else can answer"
        for file, content in kept.items():
            file.write_bytes(content)
        wait_until(lambda: ask(address, "anybody")["model_version"] == "1", within=60)


def test_the_list_answers_alone_where_no_package_can_be_read(tmp_path: Path) -> None:
    store: Store = open_store(str(tmp_path))
    write_state(
        Deployment(
            recommender="shoes",
            stable=Target(version="1", package=f"{store.root}/packages/shoes/gone"),
            salt="ab",
            terms=GatewaySettings(popular=("a", "b")),
            changed=datetime.now(UTC),
        ),
        store,
    )
    outcome = switch_to_popularity("shoes", store, by="ann", why="first")
    assert outcome.shortfall is not None
    assert outcome.shortfall.code == "store.not-found"
    again = switch_to_popularity("shoes", store, by="bob", why="second")
    assert again.state == outcome.state
    with serving(store, "shoes", listener=[].append) as address:
        for shopper in (None, "anybody"):
            ranking = ask(address, shopper)
            assert [item["item"] for item in ranking["items"]] == ["a", "b"]
            assert ranking["variant"] == "fallback"
