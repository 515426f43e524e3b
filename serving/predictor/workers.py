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
from endcap_serving.json_log import make_log_fields
from endcap_serving.parent_death import bind_to_parent
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
    heartbeats: HeartbeatPipe | None = None
    started: float = 0.0
    failures: int = 0
    retry_at: float = 0.0


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
            if worker.process and worker.heartbeats and (silence := worker.heartbeats.measure_silence(slept=slept)):
                self._kill(worker, silence)
            if worker.process is not None and (status := worker.process.poll()) is not None:
                if status in (1, 2):
                    # A worker's own word, which another start would not change: a refused package, a wrong option.
                    return status
                self._record_death(worker, status)
            if worker.process is None and time.monotonic() >= worker.retry_at:
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
                command = EndcapError(f"process {process.pid} is killed", code="predictor.worker-late", pid=process.pid)
                log.error("a worker did not end in time", extra=make_log_fields(command))
                process.kill()
                process.wait()

    def _start(self, worker: Worker) -> None:
        # It dies with this process, however that ends.
        environment = {**os.environ, FOLDER: self._folder}
        worker.heartbeats = HeartbeatPipe()
        heartbeats = ["--signs", str(worker.heartbeats.write_end)]
        command = [sys.executable, "-m", "endcap_serving.predictor", *self._command, *heartbeats]
        descriptors = [*(listener.fileno() for listener in self._listeners), worker.heartbeats.write_end]
        worker.process = subprocess.Popen(bind_to_parent(command), env=environment, pass_fds=descriptors)
        worker.heartbeats.close_write_end(worker.process.pid)
        worker.started = time.monotonic()
        log.info("a worker starts", extra={"worker": worker.number, "pid": worker.process.pid})

    def _kill(self, worker: Worker, silence: float) -> None:
        """One that hangs; what it has not answered is asked of others, once its connections break."""
        assert worker.process is not None
        log_fields = {"worker": worker.number, "pid": worker.process.pid, "seconds": round(silence, 1)}
        arguments = f"worker {worker.number} has given no sign of life for {silence:.0f} s; it is killed"
        command = EndcapError(arguments, code="predictor.worker-hung", **log_fields)
        log.error("a worker hangs", extra=make_log_fields(command))
        worker.process.kill()
        worker.process.wait()

    def _record_death(self, worker: Worker, status: int) -> None:
        from prometheus_client.multiprocess import mark_process_dead

        assert worker.process is not None
        assert worker.heartbeats is not None
        worker.heartbeats.close()
        mark_process_dead(worker.process.pid, self._folder)
        lifetime = time.monotonic() - worker.started
        worker.failures = 0 if lifetime > PROVEN else worker.failures + 1
        wait = min(2.0 ** (worker.failures - 1), LONGEST_WAIT) if worker.failures > 1 else 0.0
        log_fields = {"worker": worker.number, "pid": worker.process.pid, "status": status, "again_in": wait}
        command = EndcapError(
            f"worker {worker.number} ended with status {status}", code="predictor.worker-died", **log_fields
        )
        log.error("a worker died", extra=make_log_fields(command))
        worker.process, worker.retry_at = None, time.monotonic() + wait


def supervise_workers(
    arguments: Sequence[str],
    options: argparse.Namespace,
    listener: socket.socket,
    tls_listener: socket.socket | None = None,
) -> int:
    """Run `given.workers` predictors of this command line until a signal. Returns the exit status."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    listeners = [listener, *([tls_listener] if tls_listener else [])]
    for open_socket in listeners:
        open_socket.set_inheritable(True)
    command = [*arguments, "--workers", "1", "--threads", str(options.threads), "--fd", str(listener.fileno())]
    command += ["--tls-fd", str(tls_listener.fileno())] if tls_listener else []
    folder = tempfile.mkdtemp(prefix="endcap-metrics-")
    workers = WorkerPool(command, options.workers, listeners, folder)
    try:
        status = workers.reconcile()
        while status is None and not stop.wait(LOOK):
            status = workers.reconcile()
        # Else connections would wait in it for workers that have gone.
        for open_socket in listeners:
            open_socket.close()
        workers.end(options.drain_wait + options.drain_limit + 2)
        return status or 0
    finally:
        shutil.rmtree(folder, ignore_errors=True)
