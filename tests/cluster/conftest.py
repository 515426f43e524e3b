"""Fixtures of the tests against a real API server.

With KUBECONFIG set the tests use that cluster, in namespaces of their own that they remove, and skip what it lacks.
Otherwise they build and start a control plane (`tests.cluster.up`), which ends with the session.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from endcap.processes import is_alive
from tests.cluster import faults, up
from tests.cluster.build import BUILD, why_not
from tests.cluster.given import Cluster, own_namespace
from tests.cluster.keeper import Keeper
from tests.cluster.object_store import ObjectStore
from tests.cluster.object_store import start as start_object_store


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A cluster with KServe in both modes."""
    if given := os.environ.get("KUBECONFIG"):
        yield Cluster(Path(given))
        return
    if reason := up.why_not():
        pytest.skip(reason)
    folder = _fresh_folder()
    running = up.start(folder)
    try:
        yield Cluster(running.plane.kubeconfig, running.plane, running.store)
    finally:
        running.end()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def namespace(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[str]:
    """A fresh namespace for one test."""
    with own_namespace(cluster, _as_name(request.node.name)) as made:
        yield made


@pytest.fixture(scope="module")
def module_namespace(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[str]:
    """A fresh namespace for the tests of one module."""
    with own_namespace(cluster, _as_name(Path(request.node.name).stem)) as made:
        yield made


@pytest.fixture(scope="session")
def gpu_nodes(cluster: Cluster) -> dict[str, int]:
    """How many GPUs each node with GPUs can allocate."""
    nodes = {node["metadata"]["name"]: node["status"]["allocatable"] for node in cluster.list("nodes")}
    gpus = {name: int(holds["nvidia.com/gpu"]) for name, holds in nodes.items() if "nvidia.com/gpu" in holds}
    if not gpus:
        pytest.skip("no node of the cluster has nvidia.com/gpu to allocate")
    return gpus


@pytest.fixture(scope="session")
def object_store(cluster: Cluster) -> Iterator[ObjectStore]:
    """A real S3 server on this machine. (Pods of a given cluster cannot reach it; commands of the tests can.)"""
    if cluster.store is not None:
        yield cluster.store
        return
    if reason := why_not():
        pytest.skip(reason)
    with tempfile.TemporaryDirectory() as folder:
        keeper = Keeper(Path(folder) / "logs")
        try:
            yield start_object_store(keeper, Path(folder))
        finally:
            keeper.end()


@pytest.fixture
def flaky_api(cluster: Cluster, tmp_path: Path) -> Iterator[tuple[Path, faults.Faults]]:
    """A kubeconfig whose API server fails when `Faults` is told to, and that."""
    if cluster.plane is None:
        pytest.skip(
            "the fault proxy speaks with the client certificate of the tests' own control plane: unset KUBECONFIG"
        )
    with faults.flaky_api(cluster.kubeconfig, tmp_path / "flaky.kubeconfig") as both:
        yield both


@pytest.fixture
def kubectl(cluster: Cluster) -> Callable[..., object]:
    """`cluster.kubectl`."""
    return cluster.kubectl


@pytest.fixture
def helm(cluster: Cluster) -> Callable[..., object]:
    """`cluster.helm`."""
    return cluster.helm


def _fresh_folder() -> Path:
    """A folder that tells by its name whose it is; those of sessions that were killed go."""
    BUILD.mkdir(parents=True, exist_ok=True)
    for left in BUILD.glob("test-*"):
        if not is_alive(int(left.name.split("-")[1])):
            shutil.rmtree(left, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"test-{os.getpid()}-", dir=BUILD))


def _as_name(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower().removeprefix("test_")).strip("-")
