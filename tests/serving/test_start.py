"""How a predictor starts: as KServe starts it, and not at all on a package that was changed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from endcap import devices
from endcap.cpus import read_cpu_limit, read_memory_limit
from endcap.spec.pod import Gpu
from endcap_serving.json_log import CANNOT_RUN
from endcap_serving.local.predictors import find_free_port
from endcap_serving.predictor.options import parse_arguments
from endcap_serving.predictor.versions import find_mismatches
from tests.serving.conftest import Shop, running, wait_until_ready
from tests.serving.load import load
from tests.serving.pod import wait_for

PREDICTOR = [sys.executable, "-m", "endcap_serving.predictor"]


def copy_package(shop: Shop, model: str, folder: Path) -> Path:
    """A package as a storage initializer lays it down: the artifact's files, its manifest among them."""
    return shutil.copytree(shop.store.fetch(shop.packages[model]), folder / "models")


def test_it_takes_what_a_serving_runtime_gives(shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENDCAP_VERSION", "12")
    monkeypatch.setenv("ENDCAP_VARIANT", "canary")
    port = find_free_port()
    options = ["--model_name=shoes", f"--model_dir={copy_package(shop, 'vsknn', tmp_path)}", f"--http_port={port}"]
    options += ["--drain-wait=3"]
    log = tmp_path / "log"
    with (
        running([*PREDICTOR, *options], log) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}") as client,
    ):
        wait_until_ready(client, process, log)
        # The last is what the gateway says once this canary is promoted.
        for headers, variant in (({}, "canary"), ({"x-endcap-variant": "stable"}, "stable")):
            body = {"instances": [{"items": shop.ids[:1]}]}
            (ranking,) = client.post("/v1/models/shoes:predict", json=body, headers=headers).json()["predictions"]
            assert (ranking["model_version"], ranking["variant"]) == ("12", variant)
        # Asked to end: not ready at once, and whoever is connected is answered and told to go.
        body = json.dumps({"instances": [{"items": shop.ids[:3]}] * 5}).encode()
        with load(str(client.base_url), "/v1/models/shoes:predict", body, callers=6) as told:
            time.sleep(0.3)
            process.terminate()
            wait_for(lambda: client.get("/v2/health/ready").status_code == 503, "it is no longer ready")
            assert client.get("/v2/models/shoes/ready").status_code == 503
            assert client.get("/v2/health/live").status_code == 200
            late = client.post("/v1/models/shoes:predict", json={"instances": [{"items": []}]})
            assert (late.status_code, late.headers["connection"]) == (200, "close")
            assert process.wait(60) == 0
        assert told.lost == []
        # Busy is an answer too, on a machine that has more to do.
        assert {200} <= set(told.statuses) <= {200, 503}


def test_in_a_pod_the_package_lies_where_kserve_puts_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENDCAP_VERSION", "12")
    monkeypatch.delenv("ENDCAP_VARIANT", raising=False)
    given = parse_arguments(["--model_name", "shoes"])
    assert (given.package, given.port, given.host) == (Path("/mnt/models"), 8080, "0.0.0.0")
    assert (given.version, given.variant, given.threads) == ("12", "stable", read_cpu_limit())


@pytest.mark.parametrize(("address", "meant"), [("redis://there:6379", "redis://there:6379"), ("none", ""), ("", "")])
def test_no_online_store_is_said_by_none_or_by_nothing(
    monkeypatch: pytest.MonkeyPatch, address: str, meant: str
) -> None:
    monkeypatch.setenv("ENDCAP_ONLINE", address)
    assert parse_arguments(["--model_name", "shoes", "--version", "1"]).online == meant


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({}, ["--version", "ENDCAP_VERSION"]),
        ({"ENDCAP_VERSION": "1", "ENDCAP_VARIANT": "green"}, ["'green'", "stable, canary"]),
    ],
)
def test_a_missing_version_or_a_wrong_variant_is_an_error(environment: dict[str, str], words: list[str]) -> None:
    run = subprocess.run([*PREDICTOR, "--model_name=shoes"], env={**os.environ, **environment}, capture_output=True)
    assert run.returncode == 2
    said = run.stderr.decode()
    for word in words:
        assert word in said


def test_a_changed_package_is_refused_by_checksum(shop: Shop, tmp_path: Path) -> None:
    folder = copy_package(shop, "popularity", tmp_path)
    changed = next(file for file in sorted((folder / "model").iterdir()) if file.stat().st_size)
    content = bytearray(changed.read_bytes())
    content[-1] ^= 1
    changed.write_bytes(content)
    line = run_refused(folder)
    assert line["code"] == "store.damaged"
    address = shop.packages["popularity"]
    assert line["fields"] == {"address": address, "file": f"model/{changed.name}", "fault": "changed"}


def test_a_folder_without_a_manifest_is_refused(shop: Shop, tmp_path: Path) -> None:
    folder = copy_package(shop, "popularity", tmp_path)
    (folder / "manifest.json").unlink()
    line = run_refused(folder)
    assert (line["code"], line["fields"]["file"]) == ("store.damaged", "manifest.json")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
@pytest.mark.slow
def test_a_predictor_that_was_given_a_gpu_and_sees_none_stops_or_warns(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copy_package(shop, "popularity", tmp_path)
    missing = {"resource": "nvidia.com/gpu", "requested": 1, "seen": 0, "cause": "no-driver"}
    ended = tmp_path / "termination-log"
    ended.touch()
    line = run_refused(folder, ended, **devices.make_gpu_variables(Gpu()))
    assert line["code"] == "gpu.not-seen"
    assert missing.items() <= line["fields"].items()
    assert "[gpu.not-seen]" in ended.read_text()
    for name, value in devices.make_gpu_variables(Gpu(fallback="cpu")).items():
        monkeypatch.setenv(name, value)
    port, log = find_free_port(), tmp_path / "log"
    options = ["--model_name=shoes", "--version=1", f"--package={folder}", f"--port={port}"]
    with (
        running([*PREDICTOR, *options], log) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}") as client,
    ):
        wait_until_ready(client, process, log)
        lacks = 'endcap_gpus_missing{cause="no-driver",resource="nvidia.com/gpu"} 1.0'
        assert lacks in client.get("/metrics").text.splitlines()
    (warning,) = [one for one in map(json.loads, log.read_text().splitlines()) if "warning" in one]
    assert warning["level"] == "warning"
    assert missing.items() <= warning["fields"].items()


IN_A_POD = """
import sys
from pathlib import Path
from endcap_serving.predictor import __main__ as predictor
predictor.TERMINATION_LOG = Path(sys.argv.pop(1))
sys.exit(predictor.main())
"""


def run_refused(folder: Path, ended: Path = Path("/no/pod"), **variables: str) -> dict[str, Any]:
    """The error by which a predictor ends that must not serve a package. ended: what Kubernetes reads its end from.
    variables: of its environment."""
    command = [sys.executable, "-c", IN_A_POD, str(ended)]
    command += ["--model_name=shoes", "--version=1", f"--package={folder}"]
    run = subprocess.run(command, capture_output=True, timeout=60, env={**os.environ, **variables})
    assert run.returncode == 1
    line: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    assert (line["message"], line["level"]) == (CANNOT_RUN, "error")
    return line


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({"cpu.max": "50000 100000"}, 1),
        ({"cpu.max": "150000 100000"}, 2),
        ({"cpu.max": "max 100000"}, None),
        ({"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "100000"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ({}, None),
    ],
)
def test_threads_follow_the_limit_of_the_container(files: dict[str, str], limit: int | None, tmp_path: Path) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    cores = len(os.sched_getaffinity(0))
    assert read_cpu_limit(tmp_path) == (cores if limit is None else min(limit, cores))


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({"memory.max": "4096"}, 4096),
        ({"memory/memory.limit_in_bytes": "8192"}, 8192),
        ({"memory.max": "max"}, None),
        ({"memory/memory.limit_in_bytes": "9223372036854771712"}, None),
        ({}, None),
    ],
)
def test_memory_is_the_container_s_or_the_machine_s(files: dict[str, str], limit: int | None, tmp_path: Path) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert read_memory_limit(tmp_path) == (limit or machine)


def test_another_minor_version_is_told_and_a_patch_is_not() -> None:
    made_with = {"endcap": "0.1.0", "torch": "2.12.1+cu130", "numpy": "2.3.4"}
    assert find_mismatches(made_with, {"endcap": "0.1.3", "torch": "2.12.0", "numpy": "2.3.0"}) == {}
    assert find_mismatches(made_with, {"endcap": "0.2.0", "torch": "2.13.0", "numpy": "2.3.0"}) == {
        "endcap": ("0.1.0", "0.2.0"),
        "torch": ("2.12.1+cu130", "2.13.0"),
    }
