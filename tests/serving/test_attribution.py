"""Ranking ids through the real Envoy and predictors: who answered whom, by which split."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import httpx
import pytest

from endcap.experiments.ranking_token import RankingToken, TokenSigner, hash_request
from endcap_serving.gateway import fallback
from endcap_serving.gateway.routes import SHOPPER_HEADER, GatewaySettings, Split, Upstream
from endcap_serving.local.envoy_process import EnvoyProcess
from endcap_serving.local.process import end_processes

SIGNER = TokenSigner("vsknn")
LISTED = GatewaySettings(popular=("p1", "p2"))
SHOPPERS = [f"Zoë {number}" for number in range(40)]
PREDICT, INFER = "/v1/models/vsknn:predict", "/v2/models/vsknn/infer"


@pytest.fixture(scope="module")
def split(predictors: httpx.Client) -> Split:
    stable, canary = (Upstream(arm, predictors.base_url.port or 0) for arm in ("stable", "canary"))
    return Split(stable, canary, 0.4, "5a17", terms=LISTED)


@pytest.fixture(scope="module")
def envoy(tmp_path_factory: pytest.TempPathFactory, split: Split) -> Iterator[EnvoyProcess]:
    lists = fallback.ListServer(lambda: {"vsknn": LISTED})
    folder = tmp_path_factory.mktemp("gateway")
    process = EnvoyProcess(folder, "127.0.0.1", 0, "vsknn", split, fallback_port=lists.port)
    yield process
    end_processes([process.process])
    lists.close()


@pytest.fixture
def client(envoy: EnvoyProcess, split: Split) -> Iterator[httpx.Client]:
    envoy.apply(split)
    with httpx.Client(base_url=envoy.address, timeout=30) as opened:
        yield opened


def rank(client: httpx.Client, shopper: str | None = None, **headers: str) -> list[RankingToken]:
    """The tokens of two rankings by V1 and one by V2."""
    encoded = {name: value.encode() for name, value in headers.items()}
    if shopper is not None:
        encoded[SHOPPER_HEADER] = shopper.encode()
    first = client.post(PREDICT, json={"instances": [{"items": []}, {"items": [], "k": 1}]}, headers=encoded)
    tensor = {"name": "request", "shape": [1], "datatype": "BYTES", "data": [json.dumps({"items": []})]}
    second = client.post(INFER, json={"inputs": [tensor]}, headers=encoded)
    rankings = [*first.json()["predictions"], json.loads(second.json()["outputs"][0]["data"][0])]
    assert rankings[0]["ranking_id"] == first.headers["x-endcap-ranking-id"]
    tokens = [SIGNER.read(ranking["ranking_id"]) for ranking in rankings]
    assert all(isinstance(token, RankingToken) for token in tokens)
    return tokens  # type: ignore[return-value]


def test_a_ranking_id_says_which_version_answered_whom_and_by_which_split(client: httpx.Client, split: Split) -> None:
    arms = set()
    for shopper in SHOPPERS:
        begun = time.time() * 1000
        for token in rank(client, shopper):
            assert (token.arm, token.version, token.answerer) == (split.weights.choose(shopper, "5a17"), "7", "model")
            assert token.split == split.weights
            assert SIGNER.is_of(token, shopper)
            assert not SIGNER.is_of(token, shopper + "x")
            assert begun - 1 <= token.time <= time.time() * 1000 + 1
            arms.add(token.arm)
    assert arms == {"stable", "canary"}


def test_a_request_that_names_nobody_is_nobodys(client: httpx.Client, split: Split) -> None:
    assert {(token.arm, token.shopper, token.split) for token in rank(client)} == {("stable", None, split.weights)}


def test_what_a_client_says_of_split_and_variant_counts_nothing(client: httpx.Client, split: Split) -> None:
    told = {"x-endcap-split": "000000000000-1000000-0-0", "x-endcap-variant": "shadow"}
    for token in rank(client, "anna", **told):
        assert (token.arm, token.split) == (split.weights.choose("anna", "5a17"), split.weights)


def test_without_a_gateway_there_is_no_split(predictors: httpx.Client) -> None:
    assert {(token.arm, token.split) for token in rank(predictors, "anna")} == {("stable", None)}


def test_a_shadow_is_told_apart_and_has_the_nonce_of_the_shoppers_ranking(
    client: httpx.Client, predictors: httpx.Client
) -> None:
    # A copy of a request comes with its id and with the gateway's word that it is one.
    copy = {"x-request-id": "r-1", "x-endcap-variant": "shadow"}
    shown, copied = rank(client, "anna", **{"x-request-id": "r-1"})[0], rank(predictors, "anna", **copy)[0]
    assert (shown.arm in ("stable", "canary"), copied.arm) == (True, "shadow")
    assert shown.nonce == copied.nonce == hash_request("r-1")


def test_a_list_counts_for_the_arm_that_was_chosen(
    envoy: EnvoyProcess, client: httpx.Client, split: Split, refusing_port: int
) -> None:
    stable, canary = (Upstream(f"gone-{arm}", refusing_port) for arm in ("stable", "canary"))
    envoy.apply(Split(stable, canary, 0.4, "5a17", terms=LISTED))
    for shopper in SHOPPERS[:8]:
        for token in rank(client, shopper):
            assert (token.arm, token.version, token.answerer) == (split.weights.choose(shopper, "5a17"), "", "fallback")
            assert token.split == split.weights
            assert SIGNER.is_of(token, shopper)
