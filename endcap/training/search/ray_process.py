"""The process that holds Ray: a child of the step, so that Ray's output, its signal handlers and its end are its own.

It reads JSON lines: how to connect, then a stage each. What a stage is, and how it is driven, says a module with a
`Stage` and a `drive`: it is named to the process when it starts. It writes JSON lines: `ready`, what `drive` emits,
`over` after each stage; `refused` where not even one worker can run there, or with an error where a machine sees none
of its GPUs. It ends when its input does, in the midst of
a stage too: its parent is dead then, and another attempt may be at work in the same folders.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import math
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from endcap.training.search.gpus import look

Emit = Callable[[dict[str, Any]], None]
_OBJECT_STORE = 100 * 2**20
"""Workers read the data from the store, so that little goes through Ray's."""

_ENDS_BUSY, _ENDS_IDLE = 2.0, 10.0
"""Seconds for ending in order when the input has ended: in the midst of a stage, of which a living parent takes care
itself, and else."""


@dataclass(frozen=True)
class Connection:
    """Where Ray is, and what a worker needs. address: of a cluster; None: one is started here, for `cpus` cores.
    temp, storage: folders of one's own."""

    address: str | None
    cpus: int
    temp: str
    storage: str
    cpu: float
    gpu: float


def main() -> None:
    """Serve the parent, by the module that the command line names."""
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    speaking = threading.Lock()

    def emit(event: dict[str, Any]) -> None:
        with speaking:
            out.write(json.dumps(event) + "\n")

    given = orders()
    connection = Connection(**json.loads(next(given)))
    # First: it sets what Ray reads when it is imported.
    driver = importlib.import_module(sys.argv[1])
    import ray

    _connect(ray, connection)
    try:
        there = _there(ray)
        limit = _limit(there, connection)
        gpus = look(ray, connection.gpu) if limit and connection.gpu else {}
        ready = limit and not gpus.get("error")
        emit({"event": "ready" if ready else "refused", "limit": limit, **there, **gpus})
        for line in given:
            stage = driver.Stage.from_json(json.loads(line))
            if connection.address and connection.address.startswith("ray://"):
                _drive_there(ray, driver.__name__, stage, emit)
            else:
                driver.drive(stage, None if connection.address else connection.storage, emit)
            emit({"event": "over"})
    finally:
        ray.shutdown()


def orders() -> Iterator[str]:
    """Lines of the standard input. Where it ends while one is carried out, the whole process group is killed."""
    read: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    idle = threading.Event()

    def listen() -> None:
        # Not sys.stdin: what a thread still reads then keeps Python from ending in order.
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


def reason_of(error: BaseException | str | None) -> str:
    """Why a worker was lost, in a line; given as Ray's error, or as what Ray said of it."""
    from ray.exceptions import OutOfMemoryError, RayActorError

    text = str(error or "")
    # Ray's words on any death speak of memory as a possible cause; these are those of its own watch over it.
    if isinstance(error, OutOfMemoryError) or "running low on memory" in text:
        return "out of memory: Ray ended its process"
    if isinstance(error, RayActorError) or not text.strip():
        return "its process died"
    # Of a traceback the last line says what it was.
    return [line.strip() for line in text.splitlines() if line.strip()][-1][:300]


def _connect(ray: Any, connection: Connection) -> None:
    import logging

    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    if connection.address is not None:
        ray.init(connection.address, **quiet)
        return
    ray.init(
        "local",
        num_cpus=connection.cpus,
        object_store_memory=_OBJECT_STORE,
        include_dashboard=False,
        _temp_dir=connection.temp,
        _node_ip_address="127.0.0.1",
        **quiet,
    )


def _there(ray: Any) -> dict[str, float]:
    """Cores and GPUs of the cluster."""
    found = ray.cluster_resources()
    return {name: float(found.get(name, 0.0)) for name in ("CPU", "GPU")}


def _limit(there: dict[str, float], connection: Connection) -> int:
    """How many workers at once."""
    by_cpu = there["CPU"] / connection.cpu
    by_gpu = there["GPU"] / connection.gpu if connection.gpu else math.inf
    return math.floor(min(by_cpu, by_gpu) + 1e-9)


def _drive_there(ray: Any, driver: str, stage: Any, emit: Emit) -> None:
    """Through a Ray client: the module's `drive` runs in the cluster, and speaks by a queue."""
    from ray.util.queue import Empty, Queue

    told = Queue(actor_options={"num_cpus": 0})
    remote = ray.remote(num_cpus=0, max_retries=0)(_driven_there).remote(driver, stage, told)
    try:
        while True:
            ended = bool(ray.wait([remote], timeout=0)[0])
            with contextlib.suppress(Empty):
                while True:
                    emit(told.get(block=not ended, timeout=0.5))
            if ended:
                ray.get(remote)
                return
    finally:
        told.shutdown(force=True)


def _driven_there(driver: str, stage: Any, told: Any) -> None:
    importlib.import_module(driver).drive(stage, None, told.put)
