"""Several workers on one port: processes of their own that share a listening socket, started and watched by the first.

KServe's own way to several processes sends its application to them by pickling, which engines with their threads and
weights do not survive. Each worker maps the same files of weights; what they count is added up (metrics.py).
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from endcap.errors import EndcapError, UserError
from endcap_serving.json_log import log_fields_of
from endcap_serving.parent_death import with_parent_death
from endcap_serving.predictor.heartbeats import HeartbeatPipe, SleepDetector
from endcap_serving.predictor.metrics import FOLDER

LOOK = 0.1
PROVEN = 60.0
"""A worker that lived for so many seconds is started again at once; otherwise the waits double."""
LONGEST_WAIT = 30.0
log = logging.getLogger("endcap.predictor")


def open_listener(host: str, port: int) -> socket.socket:
    """A bound socket, on which nobody listens yet: whoever knocks is refused until a server is ready."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise UserError(
            f"{host}:{port} cannot be listened on: {error}; give another by --host and --port",
            code="predictor.port-taken",
            host=host,
            port=port,
            reason=str(error),
        ) from None
    return listener


@dataclass
class Worker:
    """One worker: its process, and how often in a row it ended early."""

    number: int
    process: subprocess.Popen[bytes] | None = None
    signs: HeartbeatPipe | None = None
    started: float = 0.0
    failures: int = 0
    again_at: float = 0.0


class WorkerPool:
    """Keeps so many workers alive until it is told to stop."""

    def __init__(self, command: Sequence[str], count: int, listeners: Sequence[socket.socket], folder: str) -> None:
        """folder: where the workers write what they count."""
        self._command = list(command)
        self._listeners = listeners
        self._folder = folder
        self._workers = [Worker(number) for number in range(count)]
        self._clock = SleepDetector()

    def reconcile(self) -> int | None:
        """Start what does not run, kill what hangs. The exit status, where a worker says that it must not serve."""
        slept = self._clock.has_slept()
        for worker in self._workers:
            if worker.process and worker.signs and (silent := worker.signs.seconds_silent(slept=slept)):
                self._kill(worker, silent)
            if worker.process is not None and (status := worker.process.poll()) is not None:
                if status in (1, 2):
                    # A worker's own word, which another start would not change: a refused package, a wrong option.
                    return status
                self._bury(worker, status)
            if worker.process is None and time.monotonic() >= worker.again_at:
                self._start(worker)
        return None

    def end(self, patience: float) -> None:
        """Ask all to end, and end those that have not within `patience` seconds."""
        running = [worker.process for worker in self._workers if worker.process is not None]
        for process in running:
            process.terminate()
        deadline = time.monotonic() + patience
        for process in running:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                own = EndcapError(f"process {process.pid} is killed", code="predictor.worker-late", pid=process.pid)
                log.error("a worker did not end in time", extra=log_fields_of(own))
                process.kill()
                process.wait()

    def _start(self, worker: Worker) -> None:
        # It dies with this process, however that ends.
        environment = {**os.environ, FOLDER: self._folder}
        worker.signs = HeartbeatPipe()
        signs = ["--signs", str(worker.signs.write_end)]
        own = [sys.executable, "-m", "endcap_serving.predictor", *self._command, *signs]
        descriptors = [*(listener.fileno() for listener in self._listeners), worker.signs.write_end]
        worker.process = subprocess.Popen(with_parent_death(own), env=environment, pass_fds=descriptors)
        worker.signs.close_write_end(worker.process.pid)
        worker.started = time.monotonic()
        log.info("a worker starts", extra={"worker": worker.number, "pid": worker.process.pid})

    def _kill(self, worker: Worker, silent: float) -> None:
        """One that hangs; what it has not answered is asked of others, once its connections break."""
        assert worker.process is not None
        log_fields = {"worker": worker.number, "pid": worker.process.pid, "seconds": round(silent, 1)}
        words = f"worker {worker.number} has given no sign of life for {silent:.0f} s; it is killed"
        own = EndcapError(words, code="predictor.worker-hung", **log_fields)
        log.error("a worker hangs", extra=log_fields_of(own))
        worker.process.kill()
        worker.process.wait()

    def _bury(self, worker: Worker, status: int) -> None:
        from prometheus_client.multiprocess import mark_process_dead

        assert worker.process is not None
        assert worker.signs is not None
        worker.signs.close()
        mark_process_dead(worker.process.pid, self._folder)
        lived = time.monotonic() - worker.started
        worker.failures = 0 if lived > PROVEN else worker.failures + 1
        wait = min(2.0 ** (worker.failures - 1), LONGEST_WAIT) if worker.failures > 1 else 0.0
        log_fields = {"worker": worker.number, "pid": worker.process.pid, "status": status, "again_in": wait}
        own = EndcapError(
            f"worker {worker.number} ended with status {status}", code="predictor.worker-died", **log_fields
        )
        log.error("a worker died", extra=log_fields_of(own))
        worker.process, worker.again_at = None, time.monotonic() + wait


def supervise_workers(
    words: Sequence[str], options: argparse.Namespace, listener: socket.socket, secure: socket.socket | None = None
) -> int:
    """Run `given.workers` predictors of this command line until a signal. Returns the exit status."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    listeners = [listener, *([secure] if secure else [])]
    for each in listeners:
        each.set_inheritable(True)
    own = [*words, "--workers", "1", "--threads", str(options.threads), "--fd", str(listener.fileno())]
    own += ["--tls-fd", str(secure.fileno())] if secure else []
    folder = tempfile.mkdtemp(prefix="endcap-metrics-")
    workers = WorkerPool(own, options.workers, listeners, folder)
    try:
        status = workers.reconcile()
        while status is None and not stop.wait(LOOK):
            status = workers.reconcile()
        # Else connections would wait in it for workers that have gone.
        for each in listeners:
            each.close()
        workers.end(options.drain_wait + options.drain_limit + 2)
        return status or 0
    finally:
        shutil.rmtree(folder, ignore_errors=True)
