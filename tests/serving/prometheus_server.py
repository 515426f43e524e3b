"""A real Prometheus that scrapes pages of loopback every second, where this machine has one."""

from __future__ import annotations

import json
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import httpx

from endcap_serving.local.predictors import find_free_port
from tests.serving.pod import wait_for

PROGRAM = shutil.which("prometheus")


class Prometheus:
    """Scrapes what `targets` names, also after it was away.

    `put` sets a target by its pod's name, with the labels that Prometheus' operator gives it.
    """

    def __init__(self, folder: Path) -> None:
        self.address = f"http://127.0.0.1:{find_free_port()}"
        self._folder, self._targets = folder, folder / "targets.json"
        self._pods: dict[str, tuple[str, str]] = {}
        self._write()
        config = {
            "global": {"scrape_interval": "1s"},
            "scrape_configs": [
                {"job_name": "pods", "file_sd_configs": [{"files": [str(self._targets)], "refresh_interval": "1s"}]}
            ],
        }
        (folder / "prometheus.yml").write_text(json.dumps(config))
        self.process: subprocess.Popen[bytes] | None = None

    def put(self, pod: str, address: str, path: str = "/metrics") -> None:
        self._pods[pod] = address, path
        self._write()

    def drop(self, pod: str) -> None:
        del self._pods[pod]
        self._write()

    def start(self) -> None:
        port = self.address.rpartition(":")[2]
        words = [f"--config.file={self._folder}/prometheus.yml", f"--storage.tsdb.path={self._folder}/data"]
        words += [f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"]
        with (self._folder / "prometheus.log").open("ab") as log:
            self.process = subprocess.Popen([str(PROGRAM), *words], stdout=log, stderr=subprocess.STDOUT)
        wait_for(self._is_ready, "Prometheus is ready", 60)

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(30)
            self.process = None

    def wait_until_scraped(self) -> None:
        """Wait until Prometheus has read each target of this moment, and none that was dropped.

        It takes up changed targets within five seconds, and a target that it has not dropped yet may answer with what
        another serves at the same address.
        """
        begin = datetime.now(UTC)

        def are_scraped() -> bool:
            reply = httpx.get(f"{self.address}/api/v1/targets", params={"state": "active"}, timeout=10)
            targets = reply.raise_for_status().json()["data"]["activeTargets"]
            scraped = {target["labels"]["pod"]: datetime.fromisoformat(target["lastScrape"]) for target in targets}
            return scraped.keys() == self._pods.keys() and min(scraped.values()) > begin

        wait_for(are_scraped, "each target is scraped", 60)

    def _is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.address}/-/ready", timeout=1).status_code == 200
        except httpx.TransportError:
            return False

    def _write(self) -> None:
        targets = [
            {"targets": [address], "labels": {"namespace": "shop", "pod": pod, "__metrics_path__": path}}
            for pod, (address, path) in self._pods.items()
        ]
        draft = self._targets.with_suffix(".draft")
        draft.write_text(json.dumps(targets))
        draft.replace(self._targets)
