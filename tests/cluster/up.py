"""Starts the test cluster and keeps it up: ``python -m tests.cluster.up [FOLDER]``

The kubeconfig is FOLDER/kubeconfig; FOLDER, by default build/cluster/run, is emptied first.
"""

from __future__ import annotations

import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tests.cluster import build, envoy_gateway, knative, kserve, object_store, own_network
from tests.cluster.control_plane import ControlPlane
from tests.cluster.keeper import Keeper
from tests.cluster.object_store import ObjectStore

T = TypeVar("T")
GPU_NODES = (1, 2)
"""How many GPUs each node with GPUs has."""
CPU_NODES = 2


def why_not() -> str | None:
    """Why the cluster cannot be started here; None where it can."""
    return build.why_not() or own_network.why_not()


@dataclass
class Running:
    """What runs. Whoever started it calls `end`."""

    plane: ControlPlane
    store: ObjectStore

    def end(self) -> None:
        self.plane.keeper.end()


def start(folder: Path, gpu_nodes: tuple[int, ...] = GPU_NODES) -> Running:
    """Everything, in an empty folder, each part built if need be."""
    keeper = Keeper(folder / "logs")
    try:
        plane = ControlPlane(folder, keeper)
        _do("API server and nodes", ("kubernetes", "etcd", "kwok"), lambda: plane.start(gpu_nodes, CPU_NODES))
        # Knative's CRDs first: KServe's controller looks once, at its start, what there is.
        _do("CRDs", (), lambda: (knative.install(plane), kserve.install(plane)))
        _do("KServe", ("kserve",), lambda: kserve.start(plane))
        _do("Knative Serving", ("knative",), lambda: knative.start(plane))
        store = _do("S3 server", ("versitygw",), lambda: object_store.start(keeper, folder))
        _do("Envoy Gateway", ("envoy-gateway",), lambda: envoy_gateway.start(plane))
    except BaseException:
        keeper.end()
        raise
    return Running(plane, store)


def _do(what: str, parts: tuple[str, ...], step: Callable[[], T]) -> T:
    """One line a step, with what it cost to build and to start."""
    print(f"{what} ...", end=" ", flush=True)
    begun = time.monotonic()
    built = sum(build.build(part) for part in parts)
    made = step()
    took = f"{time.monotonic() - begun - built:.0f} s"
    print(f"{took} (built in {built:.0f} s)" if built else took, flush=True)
    return made


def main(arguments: list[str]) -> None:
    if reason := why_not():
        sys.exit(reason)
    folder = Path(arguments[0]).resolve() if arguments else build.BUILD / "run"
    shutil.rmtree(folder, ignore_errors=True)
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    begun = time.monotonic()
    running = start(folder)
    environment = running.plane.folder / "object-store.env"
    environment.touch(mode=0o600)
    environment.write_text("".join(f"export {name}={value}\n" for name, value in running.store.environment().items()))
    print(f"up after {time.monotonic() - begun:.0f} s: export KUBECONFIG={running.plane.kubeconfig}", flush=True)
    while not ended.wait(1):
        pass
    running.end()


if __name__ == "__main__":
    main(sys.argv[1:])
