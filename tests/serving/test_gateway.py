"""The real Envoy in front of two small HTTP servers: who gets which, and what a change does to running requests."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from endcap_serving.gateway.limits import Limits
from endcap_serving.gateway.routes import SHOPPER_HEADER, VARIANT_HEADER, Split, Upstream
from endcap_serving.gateway.unknown_paths import build_unknown_path_route
from endcap_serving.local.envoy_process import EnvoyProcess
from endcap_serving.local.process import end_processes
from endcap_serving.local.serve import DRAIN_LEAST
from tests.serving.backends import Backend

PREDICT = "/v1/models/shoes:predict"
SHOPPERS = [f"shopper-{number}" for number in range(500)]


@pytest.fixture(scope="module")
def stable() -> Iterator[Upstream]:
    with Backend("stable-1") as backend:
        yield backend.upstream
        backend.shutdown()


@pytest.fixture(scope="module")
def canary() -> Iterator[Upstream]:
    with Backend("canary-2") as backend:
        yield backend.upstream
        backend.shutdown()


@pytest.fixture(scope="module")
def envoy(tmp_path_factory: pytest.TempPathFactory, stable: Upstream) -> Iterator[EnvoyProcess]:
    running = EnvoyProcess(tmp_path_factory.mktemp("gateway"), "127.0.0.1", 0, "shoes", Split(stable))
    yield running
    end_processes([running.process])


@pytest.fixture
def client(envoy: EnvoyProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=envoy.address) as opened:
        yield opened


def canary_shoppers(client: httpx.Client) -> set[str]:
    """Those that the canary answers; the header and the answering process must say the same."""
    found = set()
    for shopper in SHOPPERS:
        answer = client.post(PREDICT, json={}, headers={SHOPPER_HEADER: shopper})
        assert answer.json()["by"].startswith(answer.headers[VARIANT_HEADER])
        if answer.headers[VARIANT_HEADER] == "canary":
            found.add(shopper)
    return found


def test_a_larger_share_keeps_the_shoppers_and_another_salt_picks_others(
    envoy: EnvoyProcess, client: httpx.Client, stable: Upstream, canary: Upstream
) -> None:
    envoy.apply(Split(stable, canary, 0.1, "5a17"))
    tenth = canary_shoppers(client)
    envoy.apply(Split(stable, canary, 0.3, "5a17"))
    third = canary_shoppers(client)
    envoy.apply(Split(stable, canary, 0.1, "07e5"))
    others = canary_shoppers(client)
    # Four standard deviations of a binomial around its mean, at 500 shoppers: 27 and 41. test_share.py asks 10,000.
    assert abs(len(tenth) - 50) < 27
    assert abs(len(third) - 150) < 41
    assert tenth < third
    # By chance a tenth of a tenth, about 5, are in both.
    assert len(tenth & others) < 15


def test_shares_of_none_and_all(envoy: EnvoyProcess, client: httpx.Client, stable: Upstream, canary: Upstream) -> None:
    for share, variant in ((0.0, "stable"), (1.0, "canary")):
        envoy.apply(Split(stable, canary, share, "5a17"))
        seen = {
            client.post(PREDICT, json={}, headers={SHOPPER_HEADER: s}).headers[VARIANT_HEADER] for s in SHOPPERS[:50]
        }
        assert seen == {variant}


@pytest.mark.parametrize("headers", [{}, {SHOPPER_HEADER: ""}])
def test_requests_without_a_shopper_meet_the_stable_version(
    envoy: EnvoyProcess, client: httpx.Client, stable: Upstream, canary: Upstream, headers: dict[str, str]
) -> None:
    envoy.apply(Split(stable, canary, 0.9, "5a17"))
    seen = {client.post(PREDICT, json={}, headers=headers).headers[VARIANT_HEADER] for _ in range(50)}
    assert seen == {"stable"}


def test_predictors_are_told_the_split_by_the_gateway_alone(
    envoy: EnvoyProcess, client: httpx.Client, stable: Upstream, canary: Upstream
) -> None:
    told = {"x-endcap-split": "000000000000-1-2-3", "x-endcap-variant": "shadow"}
    for share, shopper in ((0.0, {}), (0.3, {}), (0.3, {SHOPPER_HEADER: "anna"}), (1.0, {SHOPPER_HEADER: "anna"})):
        split = Split(stable, canary, share, "5a17")
        envoy.apply(split)
        seen = client.post(PREDICT, json={}, headers={**told, **shopper}).json()["headers"]
        assert seen["x-endcap-split"] == split.weights.to_text()
        assert seen["x-endcap-variant"] == (split.weights.choose("anna", "5a17") if shopper else "stable")


@pytest.mark.slow
def test_changes_drop_no_request(envoy: EnvoyProcess, stable: Upstream, canary: Upstream) -> None:
    """Four clients ask without a pause while shares change and a slow predictor is replaced under them."""
    stop = threading.Event()
    statuses: list[int] = []
    errors: list[Exception] = []

    def ask(number: int) -> None:
        with httpx.Client(base_url=envoy.address) as client:
            while not stop.is_set():
                try:
                    headers = {SHOPPER_HEADER: f"s{number}-{len(statuses)}"}
                    statuses.append(client.post(PREDICT, json={}, headers=headers).status_code)
                except httpx.HTTPError as error:
                    errors.append(error)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    try:
        _replace_canaries(envoy, stable, canary)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert errors == []
    assert set(statuses) == {200}
    assert len(statuses) > 200


def _replace_canaries(envoy: EnvoyProcess, stable: Upstream, canary: Upstream) -> None:
    for number in range(10):
        with Backend(f"canary-{number}", delay=0.02) as replacement:
            envoy.apply(Split(stable, canary, 0.1 + number / 20, "5a17"))
            envoy.apply(Split(stable, replacement.upstream, 0.5, "5a17"), [canary])
            time.sleep(0.05)
            envoy.apply(Split(stable), [canary, replacement.upstream])
            # A request that is routed already is not counted before its body is there.
            time.sleep(DRAIN_LEAST)
            while envoy.count_active_requests(replacement.upstream):
                time.sleep(0.005)
            envoy.apply(Split(stable))
            replacement.shutdown()


def test_a_shadow_gets_copies_of_a_share_and_says_so(
    envoy: EnvoyProcess, client: httpx.Client, stable: Upstream, canary: Upstream
) -> None:
    with Backend("shadow-3") as backend:
        shadow = Upstream("shadow-3", backend.server_port, kind="shadow")
        envoy.apply(Split(stable, canary, 0.5, "5a17", shadow, 0.25))
        answers = [client.post(PREDICT, json={}, headers={SHOPPER_HEADER: shopper}) for shopper in SHOPPERS[:400]]
        assert {answer.headers[VARIANT_HEADER] for answer in answers} == {"stable", "canary"}
        assert not any(answer.json()["by"].startswith("shadow") for answer in answers)
        # Copies are on their way a moment longer. Four standard deviations of a binomial around its mean of 100: 35.
        deadline = time.monotonic() + 60
        while not 65 < len(backend.seen) < 135:
            assert time.monotonic() < deadline, len(backend.seen)
            time.sleep(0.05)
        assert {seen[VARIANT_HEADER] for seen in backend.seen} == {"shadow"}
        assert {seen["x-request-id"] for seen in backend.seen} <= {answer.headers["x-request-id"] for answer in answers}
        envoy.apply(Split(stable))
        backend.shutdown()


def test_a_shadow_that_hangs_or_is_gone_costs_shoppers_nothing(
    envoy: EnvoyProcess, client: httpx.Client, stable: Upstream, refusing_port: int
) -> None:
    with Backend("shadow-4", delay=60.0) as hangs:
        for number, port in enumerate((hangs.server_port, refusing_port)):
            shadow = Upstream(f"shadow-bad-{number}", port, kind="shadow")
            envoy.apply(Split(stable, shadow=shadow, shadow_share=1.0))
            begun = time.monotonic()
            # More than Envoy has under way with a shadow.
            answers = [client.post(PREDICT, json={}) for _ in range(150)]
            assert {(answer.status_code, answer.headers[VARIANT_HEADER]) for answer in answers} == {(200, "stable")}
            assert time.monotonic() - begun < 50, "nobody waits for the shadow"
        envoy.apply(Split(stable))
        hangs.shutdown()


def test_a_request_id_is_kept_or_made_and_told(envoy: EnvoyProcess, client: httpx.Client, stable: Upstream) -> None:
    envoy.apply(Split(stable))
    own = client.post(PREDICT, json={}, headers={"x-request-id": "f81d4fae-7dec-11d0-a765-00a0c91e6bf6"})
    assert own.json()["id"] == own.headers["x-request-id"] == "f81d4fae-7dec-11d0-a765-00a0c91e6bf6"
    made = [client.post(PREDICT, json={}) for _ in range(2)]
    assert made[0].json()["id"] == made[0].headers["x-request-id"] != made[1].headers["x-request-id"]


def test_only_ranking_and_health_are_reached(client: httpx.Client) -> None:
    # KServe lets anyone unload a model under /v2/repository.
    answer = client.post("/v2/repository/models/shoes/unload")
    assert answer.status_code == 404
    assert answer.json()["code"] == "gateway.path-unknown"
    assert answer.json()["fields"]["served"] == ["shoes"]


def test_a_404_names_a_bounded_number_of_recommenders() -> None:
    route = build_unknown_path_route([f"{number:063}" for number in range(500)], intake=True)
    fields = route["metadata"]["filter_metadata"]["endcap.nowhere"]
    assert (len(fields["served"]), fields["count"]) == (20, 500)
    assert len(route["direct_response"]["body"]["inline_string"]) < 4096  # what Envoy takes


def test_a_body_past_the_limit_is_refused(client: httpx.Client) -> None:
    answer = client.post(PREDICT, content=b" " * (Limits().body + 1), headers={"content-type": "application/json"})
    assert answer.status_code == 413
    assert (answer.json()["code"], answer.json()["fields"]) == ("gateway.body-too-large", {"most": Limits().body})


def test_a_predictor_that_is_gone_is_a_503(envoy: EnvoyProcess, client: httpx.Client, refusing_port: int) -> None:
    envoy.apply(Split(Upstream("gone", refusing_port)))
    answer = client.post(PREDICT, json={})
    assert answer.status_code == 503
    assert (answer.json()["code"], answer.json()["fields"]) == ("gateway.unanswered", {"recommender": "shoes"})


def test_the_access_log_names_shopper_and_variant(
    envoy: EnvoyProcess, client: httpx.Client, stable: Upstream, canary: Upstream
) -> None:
    envoy.apply(Split(stable, canary, 1.0, "5a17"))
    headers = {SHOPPER_HEADER: 'a "quoted" one', "x-request-id": "look-for-me"}
    client.post(PREDICT, json={}, headers=headers)
    log = Path(envoy.process.log).with_name("access.log")
    deadline = time.monotonic() + 60  # Envoy writes its log every second.
    while "look-for-me" not in log.read_text() and time.monotonic() < deadline:
        time.sleep(0.1)
    line = next(json.loads(line) for line in log.read_text().splitlines() if "look-for-me" in line)
    assert (line["shopper"], line["variant"], line["status"]) == ('a "quoted" one', "canary", 200)
