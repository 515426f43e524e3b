"""From a bucket's notification to the created run on KFP, with 100 recommenders.

The real command, `endcap schedule run --on kfp --listen`, in a process of its own; its ledgers and the shops' events
lie in buckets of moto's server, and the runs are created at the tests' KFP. Both servers are in this process.

The first: each recommender has a shop of its own, and a file comes for one shop after the other. The second: a file
comes for the shop of all of them, so that all runs are due at once.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx

from tests.kfp.server import Kfp
from tests.store.servers import Server, moto

RECOMMENDERS, FILES = 100, 30
FLOOR = 2.0
"""Seconds."""
PATIENCE = 300.0
TOKEN = "0123456789abcdef0123"
SHOP = """
apiVersion: endcap/v2
kind: Shop
name: {shop}
events:
  sources: [{{path: s3://log/{shop}}}]
  columns: {{session: session, item: item, time: time, type: type}}
  types: [view]
"""
RECOMMENDER = """
apiVersion: endcap/v2
kind: Recommender
name: {name}
shop: {shop}
split: {{by: time, test: 1d, validation: 1d}}
model: {{name: popularity}}
schedule:
  train: {{arrival: {{poll: 1h, notifications: true}}, catch_up: all}}
"""


def measure() -> list[dict[str, Any]]:
    with moto() as server:
        server.client().make_bucket("log")
        server.client().make_bucket("endcap")
        one_by_one = _measure_one_by_one(server)
        first, last = _measure_at_once(server)
    values = [
        ("a file for one of 100 shops, median", statistics.median(one_by_one), FLOOR),
        ("a file for one of 100 shops, slowest", max(one_by_one), FLOOR),
        ("a file for a shop with 100 recommenders, first run", first, FLOOR),
        ("a file for a shop with 100 recommenders, last run", last, None),
    ]
    return [
        {
            "name": f"schedules: {name}",
            "value": value,
            "unit": "seconds",
            "floor": floor,
            "lower_is_better": True,
            "how": f"{FILES} files, {RECOMMENDERS} recommenders; from POST to the run's creation",
        }
        for name, value, floor in values
    ]


def _measure_one_by_one(server: Server) -> list[float]:
    seconds = []
    shops = [f"shop-{number}" for number in range(RECOMMENDERS)]
    with Kfp() as kfp, _scheduler(server, kfp, {f"home-{shop}": shop for shop in shops}) as webhook:
        for number in range(FILES):
            begun = _send_file(server, webhook, shops[number * 37 % RECOMMENDERS], number)
            _wait(lambda count=number + 1: len(kfp.runs) == count)
            seconds.append(time.monotonic() - begun)
    return seconds


def _measure_at_once(server: Server) -> tuple[float, float]:
    with Kfp() as kfp, _scheduler(server, kfp, {f"home-{n}": "mall" for n in range(RECOMMENDERS)}) as webhook:
        begun = _send_file(server, webhook, "mall", 1)
        _wait(lambda: kfp.runs)
        first = time.monotonic() - begun
        _wait(lambda: len(kfp.runs) == RECOMMENDERS)
        return first, time.monotonic() - begun


@contextlib.contextmanager
def _scheduler(server: Server, kfp: Kfp, shops: dict[str, str]) -> Iterator[str]:
    """Run the command until all pipelines are uploaded and no data are there. Yields the webhook's address."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "shops").mkdir()
        for recommender, shop in shops.items():
            (folder / "shops" / f"{shop}.yaml").write_text(SHOP.format(shop=shop))
            (folder / f"{recommender}.yaml").write_text(RECOMMENDER.format(name=recommender, shop=shop))
        command = [
            str(Path(sys.executable).parent / "endcap"),
            "schedule",
            "run",
            *sorted(map(str, folder.glob("*.yaml"))),
        ]
        command += ["--on", "kfp", "--kfp-host", kfp.url, "--store", f"s3://endcap/{folder.name}"]
        environment = {**os.environ, **server.environment(), "ENDCAP_SCHEDULE_TOKEN": TOKEN}
        log = folder / "log"
        with log.open("w") as output:
            process = subprocess.Popen(
                [*command, "--listen", "127.0.0.1:0"], stdout=output, stderr=output, env=environment
            )
        try:
            _wait(lambda: process.poll() is not None or len(kfp.versions) == len(shops))
            assert process.poll() is None, log.read_text()
            (line,) = [line for line in log.read_text().splitlines() if line.startswith("notifications are taken at ")]
            yield line.rpartition(" ")[2]
        finally:
            process.terminate()
            process.wait(PATIENCE)


def _send_file(server: Server, webhook: str, shop: str, number: int) -> float:
    """Put a file and send its notification. Returns when the notification was sent."""
    key, body = f"{shop}/day=2026-03-01/{number}.csv", f"session,item,time,type\n{number},i,2026-03-01T00:00:00Z,view\n"
    server.client().put_object("log", key, BytesIO(body.encode()), len(body))
    about = {"bucket": {"name": "log"}, "object": {"key": key, "eTag": str(number), "sequencer": f"{number:016X}"}}
    record = {"eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "s3": about}
    begun = time.monotonic()
    answer = httpx.post(webhook, json={"Records": [record]}, headers={"authorization": f"Bearer {TOKEN}"}, timeout=60)
    assert answer.json() == {"woken": [shop]}, answer.text
    return begun


def _wait(condition: Any) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)
