"""Several workers on one port: one sum of metrics, none missed when it dies, and an end at which nobody is lost."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from endcap_serving.local.predictors import find_free_port
from tests.serving.conftest import Shop, all_ended, children, running, wait_until_ready
from tests.serving.load import load

PATH = "/v1/models/shoes:predict"
IMPATIENT = """
import sys
from endcap_serving.predictor import heartbeats
from endcap_serving.predictor.__main__ import main
heartbeats.SILENT = 3.0
sys.exit(main())
"""
"""A first process that waits less long for its workers' signs of life."""


@dataclass
class Workers:
    address: str
    process: Popen[bytes]
    log: Path

    def pids(self) -> list[int]:
        return [pid for pid, command in children(self.process.pid).items() if "endcap_serving.predictor" in command]

    def ready(self) -> int:
        """How many workers have said that they are."""
        return self.log.read_text().count('"message": "ready"')

    def metric(self, name: str) -> float:
        """As a worker tells it; over a new connection, which may be any worker's."""
        families = text_string_to_metric_families(httpx.get(f"{self.address}/metrics").text)
        return sum(sample.value for family in families for sample in family.samples if sample.name == name)


@pytest.fixture(scope="module")
def workers(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    port, log = find_free_port(), tmp_path_factory.mktemp("workers") / "log"
    options = {
        "--model-name": "shoes",
        "--package": str(shop.store.fetch(shop.packages["sequential-rules"])),
        "--version": "3",
        "--host": "127.0.0.1",
        "--port": str(port),
        "--workers": "2",
        "--drain-wait": "1",
    }
    words = [word for option in options.items() for word in option]
    with running([sys.executable, "-c", IMPATIENT, *words], log) as process:
        found = Workers(f"http://127.0.0.1:{port}", process, log)
        with httpx.Client(base_url=found.address) as client:
            wait_until_ready(client, process, log)
        until_ready(found, 2)
        yield found


def until_ready(workers: Workers, count: int) -> None:
    deadline = time.monotonic() + 60
    while workers.ready() < count:
        assert time.monotonic() < deadline, workers.log.read_text()
        time.sleep(0.1)


def test_whoever_is_asked_tells_the_metrics_of_all(workers: Workers) -> None:
    for _ in range(40):
        assert httpx.post(workers.address + PATH, json={"instances": [{"items": []}]}).status_code == 200
    assert {workers.metric("endcap_requests_total") for _ in range(8)} == {40}
    assert {workers.metric("endcap_request_seconds_count") for _ in range(8)} == {40}
    assert workers.metric("endcap_model_info") == 1


@pytest.mark.slow
def test_a_worker_that_dies_is_replaced_and_only_its_own_calls_fail(workers: Workers, shop: Shop) -> None:
    counted = workers.metric("endcap_requests_total")
    victim, other = workers.pids()
    body = json.dumps({"instances": [{"items": shop.ids[:3]}]}).encode()
    with load(workers.address, PATH, body, callers=6, again=True) as told:
        time.sleep(0.3)
        os.kill(victim, signal.SIGKILL)
        until_ready(workers, 3)
        time.sleep(0.3)
    # Busy is an answer too, on a machine that has more to do.
    assert {200} <= set(told.statuses) <= {200, 503}
    # At most the one call that each caller had under way.
    assert len(told.lost) <= 6
    assert all_ended([victim])
    assert other in workers.pids()
    assert len(workers.pids()) == 2
    # What the dead one had counted stays counted. It may have sent an answer to each caller before it counted it.
    assert workers.metric("endcap_requests_total") >= counted + told.statuses[200] - 6


@pytest.mark.slow
def test_a_worker_that_hangs_is_replaced_while_the_other_answers(workers: Workers) -> None:
    victim, other = workers.pids()
    ready = workers.ready()
    os.kill(victim, signal.SIGSTOP)
    try:
        until_ready(workers, ready + 1)
    finally:
        if victim in workers.pids():
            os.kill(victim, signal.SIGCONT)
    assert all_ended([victim])
    assert other in workers.pids()
    said = [json.loads(line) for line in workers.log.read_text().splitlines()]
    (hung,) = [line for line in said if line.get("code") == "predictor.worker-hung"]
    assert hung["fields"]["pid"] == victim
    assert httpx.post(workers.address + PATH, json={"instances": [{"items": []}]}).status_code == 200


def test_asked_to_end_all_workers_answer_what_they_have_taken(workers: Workers, shop: Shop) -> None:
    body = json.dumps({"instances": [{"items": shop.ids[:3]}] * 5}).encode()
    pids = workers.pids()
    with load(workers.address, PATH, body, callers=6) as told:
        time.sleep(0.3)
        workers.process.terminate()
        assert workers.process.wait(15) == 0
    assert told.lost == []
    assert {200} <= set(told.statuses) <= {200, 503}
    assert all_ended(pids)
