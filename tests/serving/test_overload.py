"""Three times as many requests as can be answered: who is let in is answered soon, and the others are told at once."""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from endcap_serving.gateway import fallback
from endcap_serving.gateway.access.access import Access
from endcap_serving.gateway.access.policy import Rate
from endcap_serving.gateway.routes import GatewaySettings, Split, Upstream
from endcap_serving.local.envoy_process import EnvoyProcess
from endcap_serving.local.process import end_processes
from tests.access.credentials import make_client, make_policy
from tests.serving.many import SLOW

PATH = "/v1/models/slow:predict"
CALLERS = 40
PAUSE = 0.2
LONGEST_WAIT = 0.1
"""`serving.max_wait`, which the test's recommenders leave as it is."""


def test_past_its_capacity_it_answers_at_once_and_what_it_accepts_does_not_wait_long(predictors: httpx.Client) -> None:
    """All let in, each would wait for most of the others: 0.6 s."""
    end = time.monotonic() + 3.0

    def ask(_: int) -> list[tuple[httpx.Response, float]]:
        told = []
        with httpx.Client(base_url=predictors.base_url, timeout=30) as client:
            while (began := time.monotonic()) < end:
                answer = client.post(PATH, json={"instances": [{"items": []}]})
                told.append((answer, time.monotonic() - began))
                time.sleep(PAUSE)
        return told

    with ThreadPoolExecutor(CALLERS) as threads:
        told = [one for some in threads.map(ask, range(CALLERS)) for one in some]
    accepted = sorted(seconds for answer, seconds in told if answer.status_code == 200)
    refused = [answer for answer, _ in told if answer.status_code == 503]
    waited = sorted(seconds for answer, seconds in told if answer.status_code == 503)
    assert len(accepted) + len(refused) == len(told)
    # It goes on working at its capacity meanwhile.
    assert len(accepted) > 0.5 * 3.0 / SLOW
    assert len(refused) > len(accepted)
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
    assert {answer.json()["code"] for answer in refused} == {"predictor.overloaded"}
    assert all(str(answer.json()["fields"]["retry_after"]) == answer.headers["retry-after"] for answer in refused)
    assert accepted[len(accepted) * 9 // 10] < LONGEST_WAIT + 0.25
    assert waited[len(waited) // 2] < 0.05
    # And when it is over, it is over.
    assert predictors.post(PATH, json={"instances": [{"items": []}]}).status_code == 200


@pytest.mark.slow
def test_an_ordinary_client_is_served_by_the_model_beside_eight_heavy_ones(
    predictors: httpx.Client, tmp_path: Path
) -> None:
    """Of 50 requests a second that it can answer eight ask for ever, and one for 20. Who is refused gets the list."""
    heavy = [make_client(f"heavy-{number}", f"heavy-{number}") for number in range(8)]
    ordinary = make_client("shop", "shop", rate={"perSecond": 100, "burst": 100})
    known = make_policy(clients=[*heavy, ordinary])
    split = Split(Upstream("slow", predictors.base_url.port or 0), terms=GatewaySettings(timeout=2.0, popular=("p1",)))
    lists = fallback.ListServer(lambda: {"slow": split.terms})
    envoy = EnvoyProcess(tmp_path, "127.0.0.1", 0, "slow", split, fallback_port=lists.port, access=Access(known))
    stop = threading.Event()

    def ask(key: str, pause: float) -> httpx.Response:
        with httpx.Client(base_url=envoy.address, timeout=30, headers={"x-endcap-key": key}) as asker:
            while True:
                answer = asker.post(PATH, json={"instances": [{"items": []}]})
                if stop.wait(pause):
                    return answer

    def shares() -> Counter[str]:
        """Who answered the ordinary client."""
        time.sleep(0.5)
        seen: Counter[str] = Counter()
        with httpx.Client(base_url=envoy.address, timeout=30, headers={"x-endcap-key": "shop"}) as asker:
            for _ in range(40):
                seen[asker.post(PATH, json={"instances": [{"items": []}]}).headers["x-endcap-variant"]] += 1
                time.sleep(0.03)
        return seen

    try:
        with ThreadPoolExecutor(32) as threads:
            last = [threads.submit(ask, f"heavy-{number % 8}", 0.01) for number in range(32)]
            try:
                without = shares()
                envoy.apply_access(Access(known, rate=Rate(perSecond=1, burst=1)))
                limited = shares()
            finally:
                stop.set()
    finally:
        end_processes([envoy.process])
        lists.close()
    print(f"of 40 ordinary requests the list answered {without['fallback']} without limits, {limited['fallback']} with")
    assert without["fallback"] > 10
    assert limited["fallback"] <= 2
    # Each heavy key may still send one request a second, so a thread's last answer can be the model's.
    refused = [answer for answer in (thread.result() for thread in last) if answer.status_code == 429]
    assert len(refused) > len(last) // 2
    assert {(answer.headers["retry-after"], answer.json()["code"]) for answer in refused} == {
        ("1", "gateway.rate-limited")
    }
