"""Prometheus and promtool, where this machine has them: on the PATH, or where PROMETHEUS_BIN says."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from endcap_serving.local.predictors import find_free_port

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "endcap"
RULES = CHART / "monitoring" / "rules.yaml"
ALERTS = Path(__file__).with_name("alerts.yaml")
ON_CALL = ROOT / "docs" / "on-call.md"

Json = dict[str, Any]


def find_program(name: str) -> str:
    """The path of `prometheus` or `promtool`. Skips the test where there is none."""
    program = shutil.which(name, path=os.pathsep.join((os.environ.get("PROMETHEUS_BIN", ""), os.environ["PATH"])))
    if program is None:
        pytest.skip(f"no {name}: install Debian's package prometheus, or name its folder in PROMETHEUS_BIN")
    return program


def run_promtool(*words: str) -> None:
    done = subprocess.run([find_program("promtool"), *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def read_rules(kind: str) -> dict[str, Json]:
    """The rules of a kind (`alert` or `record`), by name."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return {rule[kind]: rule for group in groups for rule in group["rules"] if kind in rule}


class Prometheus:
    """A server that scrapes pages every second."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._client = httpx.Client(base_url=address, timeout=20)

    def ask(self, path: str, **query: str) -> Any:
        """What its API answers."""
        answer = self._client.get(f"/api/v1/{path}", params=query).json()
        assert answer["status"] == "success", (query, answer)
        return answer["data"]

    def query(self, expression: str) -> list[Json]:
        """The samples of an expression at this moment. Fails if Prometheus refuses it."""
        result: list[Json] = self.ask("query", query=expression)["result"]
        return result


@contextmanager
def run_prometheus(folder: Path, pages: Mapping[str, str], interval: str = "1s") -> Iterator[Prometheus]:
    """A Prometheus on loopback with the chart's rules. pages: addresses of pages, by `endcap_component`."""
    folder.mkdir(parents=True, exist_ok=True)
    jobs = []
    for component, page in pages.items():
        address = httpx.URL(page)
        target = {
            "targets": [f"{address.host}:{address.port}"],
            "labels": {"endcap_component": component.split("/")[0]},
        }
        job = {"job_name": component, "metrics_path": address.path, "static_configs": [target]}
        jobs.append(job)
    config = {
        "global": {"scrape_interval": interval, "evaluation_interval": interval},
        "rule_files": [str(RULES)],
        "scrape_configs": jobs,
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    port = find_free_port()
    words = [
        find_program("prometheus"),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(words, stdout=output, stderr=subprocess.STDOUT)
    try:
        server = Prometheus(f"http://127.0.0.1:{port}")
        deadline = time.monotonic() + 60
        while True:
            try:
                httpx.get(f"{server.address}/-/ready").raise_for_status()
                break
            except httpx.HTTPError:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.1)
        yield server
    finally:
        process.terminate()
        process.wait(20)
