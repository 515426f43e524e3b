"""What a pod does that was given GPUs, by a real look for them, on a machine without one and on a machine with one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch

from endcap import devices
from endcap.devices.check import ON_CPU
from endcap.devices.probe import probe_gpus
from endcap.errors import ClusterError, UserError
from endcap.models import make
from endcap.models.device import find_device
from endcap.progress import Notice
from endcap.ray_driver.gpus import drop_missing_gpus
from endcap.spec.neural import GRU4RecSpec
from endcap.spec.pod import Gpu
from endcap.spec.settings import TrainSettings
from endcap.store import Store
from endcap_components.lifecycle import StepReporter, run_step
from tests.refusals import refused
from tests.training.datasets import sleeper

NO_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a fallback sets is forgotten after the test."""
    for name in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", ON_CPU, devices.GPU_VARIABLE):
        monkeypatch.setenv(name, "x")
        monkeypatch.delenv(name)


def set_gpu(monkeypatch: pytest.MonkeyPatch, **gpu: Any) -> None:
    """This pod's spec has such a `gpu`."""
    for name, value in devices.make_gpu_variables(Gpu(**gpu)).items():
        monkeypatch.setenv(name, value)


def test_a_pod_that_was_given_none_looks_for_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/no/such/python")
    assert devices.check_gpus() == (None, None)
    set_gpu(monkeypatch, count=0)
    assert devices.check_gpus() == (None, None)


@pytest.mark.parametrize("text", ["1", "[]", '{"count": "1"}', '{"gpus": 1}', "nvidia.com/gpu"])
def test_what_cannot_be_read_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(devices.GPU_VARIABLE, text)
    with refused(UserError, "gpu.request-malformed", value=text):
        devices.check_gpus()


@NO_GPU
@pytest.mark.slow
def test_a_step_stops_before_its_work_where_it_sees_no_gpu(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    set_gpu(monkeypatch, count=2)
    missing = {"resource": "nvidia.com/gpu", "requested": 2, "seen": 0, "cause": "no-driver"}
    with refused(ClusterError, "gpu.not-seen", **missing), run_step("train", store.root, run="r"):
        pytest.fail("the body was run")
    # Each such step, and no step of one's own, which may compute by other means.
    with run_step("audit", store.root, run="r"):
        pass


@NO_GPU
@pytest.mark.slow
def test_a_step_goes_on_on_the_cpu_where_its_spec_allows_it(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    set_gpu(monkeypatch, count=1, fallback="cpu")
    lines: list[str] = []
    monkeypatch.setattr(StepReporter, "progress", lambda self, line: lines.append(line))
    with run_step("train", store.root, run="r"):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == ""
    (notice,) = lines
    assert isinstance(notice, Notice)
    assert (notice.fields["cause"], notice.fields["seen"]) == ("no-driver", 0)
    # Its own trials ask Ray for none; those elsewhere have pods of their own.
    search: dict[str, Any] = {"gpu": 0.5}
    here = drop_missing_gpus(make_search_settings(search)).search
    there = drop_missing_gpus(make_search_settings(search | {"address": "ray://head:10001"})).search
    assert here is not None
    assert there is not None
    assert (here.gpu, there.gpu) == (0.0, 0.5)


def make_search_settings(search: dict[str, Any]) -> TrainSettings:
    return TrainSettings.of(sleeper(search))


def test_a_driver_that_ends_or_blocks_whoever_asks_ends_no_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "python"
    monkeypatch.setattr(sys, "executable", str(python))
    for script, silent, error in (("kill -SEGV $$", False, "status -11"), ("exec sleep 60", True, "")):
        python.write_text(f"#!/bin/sh\n{script}\n")
        python.chmod(0o700)
        seen = probe_gpus(patience=1.0)
        assert (seen.silent, error in seen.error) == (silent, True)


ON_RAY = """
import functools, json, sys
import ray
from endcap.ray_driver.gpus import check_gpus
from endcap.ray_driver.jobs import Connection
from endcap.ray_driver.local_ray import start_local_ray
ray.init = functools.partial(ray.init, num_gpus=1)
start_local_ray(ray, Connection(None, 1, sys.argv[1], sys.argv[1], 1, 0.5, "", {}))
print(json.dumps(check_gpus(ray, 0.5)))
"""


@NO_GPU
@pytest.mark.slow
def test_a_gpu_that_ray_counts_and_torch_does_not_see_ends_the_search_before_its_trials() -> None:
    with tempfile.TemporaryDirectory(prefix="ray-") as folder:  # The paths of Ray's sockets must be short.
        run = subprocess.run([sys.executable, "-c", ON_RAY, folder], capture_output=True, text=True, timeout=280)
    assert run.returncode == 0, run.stderr
    answer = json.loads(run.stdout.splitlines()[-1])
    assert (answer["error"]["code"], answer["error"]["fields"]["cause"]) == ("gpu.not-seen", "no-driver")
    assert answer["lacks"] == []


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_that_is_there_is_seen_and_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    set_gpu(monkeypatch, count=1)
    request, lack = devices.check_gpus()
    assert request is not None
    assert lack is None
    assert len(probe_gpus().devices) == torch.cuda.device_count()
    assert find_device(make(GRU4RecSpec(name="gru4rec"))).startswith("cuda: ")
