"""The process that has Ray: it connects, then carries out jobs that arrive on standard input.

`jobs` defines the messages. The process ends when its input ends, also in the middle of a job: its parent is dead then,
and another attempt may work in the same folders.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import queue
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

from endcap.ray_driver.gpus import check_gpus
from endcap.ray_driver.jobs import Connection, DriverJob, Emit
from endcap.ray_driver.local_ray import QUIET, start_local_ray

_ENDS_BUSY, _ENDS_IDLE = 2.0, 10.0
"""Seconds for ending in order after the input has ended: during a job, which a living parent would have ended itself,
and otherwise."""


def main() -> None:
    """Serve the parent process."""
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    lock = threading.Lock()

    def emit(event: dict[str, Any]) -> None:
        with lock:
            out.write(json.dumps(event) + "\n")

    lines = read_lines()
    connection = Connection(**json.loads(next(lines)))
    # First: Ray reads them when it is imported.
    os.environ |= connection.variables
    driver = importlib.import_module(connection.driver)
    import ray

    _connect(ray, connection)
    try:
        resources = _list_resources(ray)
        limit = _count_workers(resources, connection)
        gpus = check_gpus(ray, connection.gpu) if limit and connection.gpu else {}
        is_ready = limit and not gpus.get("error")
        emit({"event": "ready" if is_ready else "refused", "limit": limit, **resources, **gpus})
        for line in lines:
            job = driver.JOB.from_json(json.loads(line))
            if connection.address and connection.address.startswith("ray://"):
                _drive_in_cluster(ray, connection, job, emit)
            else:
                driver.drive(job, None if connection.address else connection.storage, emit)
            emit({"event": "over"})
    finally:
        ray.shutdown()


def read_lines() -> Iterator[str]:
    """Yield lines of standard input. If the input ends while a line is carried out, kill the whole process group."""
    read: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    idle = threading.Event()

    def listen() -> None:
        # Not sys.stdin: a thread that still reads it keeps Python from ending in order.
        with os.fdopen(os.dup(0)) as lines:
            for line in lines:
                read.put(line)
        read.put(None)
        time.sleep(_ENDS_BUSY)
        if idle.is_set():
            time.sleep(_ENDS_IDLE)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=listen, daemon=True).start()
    while True:
        idle.set()
        line = read.get()
        if line is None:
            return
        idle.clear()
        yield line


def _connect(ray: Any, connection: Connection) -> None:
    if connection.address is not None:
        ray.init(connection.address, **QUIET)
    else:
        start_local_ray(ray, connection)


def _list_resources(ray: Any) -> dict[str, float]:
    """Return the cores and GPUs of the cluster."""
    resources = ray.cluster_resources()
    return {name: float(resources.get(name, 0.0)) for name in ("CPU", "GPU")}


def _count_workers(resources: dict[str, float], connection: Connection) -> int:
    """Return how many workers fit at once."""
    by_cpu = resources["CPU"] / connection.cpu
    by_gpu = resources["GPU"] / connection.gpu if connection.gpu else math.inf
    return math.floor(min(by_cpu, by_gpu) + 1e-9)


def _drive_in_cluster(ray: Any, connection: Connection, job: DriverJob, emit: Emit) -> None:
    """Drive through a Ray client: the module's `drive` runs in the cluster, and its events come through a queue."""
    from endcap.ray_driver.forwarding import forward

    remote = ray.remote(num_cpus=0, max_retries=0)(_drive)
    with forward(emit) as events:
        ray.get(remote.remote(connection.driver, connection.variables, job, events))


def _drive(driver: str, variables: Mapping[str, str], job: DriverJob, events: Any) -> None:
    """Drive a job in the cluster."""
    os.environ |= variables
    importlib.import_module(driver).drive(job, None, events.put)
