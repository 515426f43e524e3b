"""An A/B test carried out by real predictors and a real Envoy: who meets which version, and that nobody else moves."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import cast

import httpx
import pytest

from endcap.deploy import Target, begin_ab, change_layout, end_ab, read_state
from endcap.deploy.state import make_salt
from endcap.experiments.layout import Layout
from endcap.experiments.ranking_token import RankingToken, TokenSigner
from endcap.experiments.splits import Arm, hash_salt
from endcap_serving.local.events import ChallengerShare, PredictorEnded, PredictorFailed, RoutesChanged, ServingEvent
from endcap_serving.local.serve import serving
from tests.serving.conftest import Shop
from tests.serving.test_supervisor import MODELS, SHOPPERS, Server, desire, find_predictor, processes

SALT = make_salt("shoes", "ab-1")
VERSIONS: dict[Arm, str] = {"stable": "1", "challenger-1": "2", "challenger-2": "3"}
FIRST = Layout.begin({"stable": 500_000, "challenger-1": 300_000, "challenger-2": 200_000})
SECOND = FIRST.change({"stable": 300_000, "challenger-1": 250_000, "challenger-2": 450_000})
THIRD = SECOND.change({"stable": 450_000, "challenger-2": 550_000})


@pytest.fixture(scope="module")
def server(shop: Shop) -> Iterator[Server]:
    """Version 1 serves everyone."""
    desire(shop, "1")
    events: list[ServingEvent] = []
    with serving(shop.store, "shoes", listener=events.append) as address:
        yield Server(address, events)
    if read_state("shoes", shop.store).ab is not None:
        end_ab("shoes", SALT, shop.store)


@pytest.mark.slow
def test_challengers_serve_by_their_weights_and_only_movers_move(server: Server, shop: Shop) -> None:
    challengers = [Target(version=version, package=shop.packages[MODELS[version]]) for version in ("2", "3")]
    begin_ab("shoes", challengers, FIRST, SALT, shop.store)
    both = _share(("challenger-1", 0.3), ("challenger-2", 0.2))
    # Two predictors start, on a machine that may be busy.
    server.wait_for(RoutesChanged, stable="1", challengers=both, within=90)
    assert server.versions(SHOPPERS) == _meet(FIRST)

    # The answer's id says by which layout, and with which probabilities.
    token = _read_token(server, shop)
    assert token.split is not None
    assert (token.version, token.split) == (VERSIONS[cast(Arm, token.arm)], FIRST.split(hash_salt(SALT), 0))

    change_layout("shoes", SECOND, SALT, shop.store)
    routed = _share(("challenger-1", 0.25), ("challenger-2", 0.45))
    server.wait_for(RoutesChanged, challengers=routed)
    assert server.versions(SHOPPERS) == _meet(SECOND)

    # The shoppers of a challenger that crashes meet the stable version until it is back, and nobody else moves.
    os.kill(find_predictor(shop, "3"), signal.SIGKILL)
    assert server.wait_for(PredictorFailed, variant="challenger-2").error.code == "serving.process-ended"
    server.wait_for(RoutesChanged, challengers=_share(("challenger-1", 0.25)))
    usual, left = _meet(SECOND), server.versions(SHOPPERS[:60])
    assert {shopper: version for shopper, version in left.items() if usual[shopper] != "3"}.items() <= usual.items()
    # It may be back before the last of them have asked.
    assert next(version for shopper, version in left.items() if usual[shopper] == "3") == "1"
    server.wait_for(RoutesChanged, challengers=routed, within=90)
    assert server.versions(SHOPPERS) == _meet(SECOND)

    change_layout("shoes", THIRD, SALT, shop.store)
    server.wait_for(PredictorEnded, version="2")
    assert server.versions(SHOPPERS) == _meet(THIRD)
    assert not [line for line in processes(shop).values() if "--variant challenger-1" in line]

    terms = read_state("shoes", shop.store).terms
    end_ab("shoes", SALT, shop.store, challengers[1], terms)
    server.wait_for(RoutesChanged, stable="3", challengers=(), within=90)
    assert set(server.versions(SHOPPERS[:50]).values()) == {"3"}
    server.wait_for(PredictorEnded, version="1")


def _share(*arms: tuple[str, float]) -> tuple[ChallengerShare, ...]:
    return tuple(ChallengerShare(arm, VERSIONS[cast(Arm, arm)], share) for arm, share in arms)


def _meet(layout: Layout) -> dict[str, str]:
    """The version of each shopper by a layout."""
    split = layout.split(hash_salt(SALT), 0)
    return {shopper: VERSIONS[split.choose(shopper, SALT, layout)] for shopper in SHOPPERS}


def _read_token(server: Server, shop: Shop) -> RankingToken:
    body, headers = {"instances": [{"items": [], "k": 1}]}, {"x-endcap-shopper": SHOPPERS[0]}
    answer = httpx.post(f"{server.address}/v1/models/shoes:predict", json=body, headers=headers)
    token = TokenSigner("shoes").read(answer.json()["predictions"][0]["ranking_id"])
    assert isinstance(token, RankingToken)
    return token
