"""Several workers on one port: processes that share a listening socket. The first process starts and watches them.

KServe itself would send its application to other processes by pickling, which is impossible for engines with threads
and weights. The workers map the same files of weights, and their metrics are added up (metrics.py).
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
"""Seconds. A worker that ran for longer is started again at once. Otherwise each wait is twice as long as the last."""
LONGEST_WAIT = 30.0
"""Seconds between two starts at most."""
SAMPLES_PATIENCE = 5.0
"""Seconds that a worker may take for its last request samples (endcap/samples/writer.py)."""
log = logging.getLogger("endcap.predictor")


def open_listener(host: str, port: int) -> socket.socket:
    """Bind a socket on which nobody listens yet. Connections are refused until a server is ready.

    Parameters
    ----------
    host, port
        Where to listen. A host with a colon is an IPv6 address.

    Raises
    ------
    UserError
        The port cannot be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise UserError(
            f"{host}:{port} cannot be used: {error}; give another by --host and --port",
            code="predictor.port-taken",
            host=host,
            port=port,
            reason=str(error),
        ) from None
    return listener


@dataclass
class Worker:
    """One worker: its process, its heartbeats, and how often in a row it ended early."""

    number: int
    process: subprocess.Popen[bytes] | None = None
    heartbeats: HeartbeatPipe | None = None
    started: float = 0.0
    failures: int = 0
    retry_at: float = 0.0


class WorkerPool:
    """Keeps workers running.

    Parameters
    ----------
    command
        The arguments of each worker's command line.
    count
        How many workers to run.
    listeners
        The sockets that they share.
    folder
        Where the workers write their metrics.
    """

    def __init__(self, command: Sequence[str], count: int, listeners: Sequence[socket.socket], folder: str) -> None:

        self._command = list(command)
        self._listeners = listeners
        self._folder = folder
        self._workers = [Worker(number) for number in range(count)]
        self._clock = SleepDetector()

    def reconcile(self) -> int | None:
        """Start workers that do not run, and kill those that hang.

        Returns
        -------
        int or None
            An exit status if a worker ended because it must not serve; None if all is well.
        """
        slept = self._clock.has_slept()
        for worker in self._workers:
            if worker.process and worker.heartbeats and (silence := worker.heartbeats.measure_silence(slept=slept)):
                self._kill(worker, silence)
            if worker.process is not None and (status := worker.process.poll()) is not None:
                if status in (1, 2):
                    # The worker refused a package or an option, and would refuse it again.
                    return status
                self._record_death(worker, status)
            if worker.process is None and time.monotonic() >= worker.retry_at:
                self._start(worker)
        return None

    def end(self, patience: float) -> None:
        """Ask all workers to end, and kill those that have not ended within `patience` seconds."""
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
        # The worker dies with this process, however that ends.
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
        """Kill a worker that hangs. Its connections break, so clients can send their requests to another worker."""
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
    """Run several predictors until a signal.

    Parameters
    ----------
    arguments
        The command line.
    options
        The parsed command line, with the number of workers.
    listener
        The plain socket.
    tls_listener
        The socket for TLS; None: there is none.

    Returns
    -------
    int
        The exit status.
    """
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
        # An open socket would let connections wait for workers that have ended.
        for open_socket in listeners:
            open_socket.close()
        workers.end(options.drain_wait + options.drain_limit + SAMPLES_PATIENCE + 2)
        return status or 0
    finally:
        shutil.rmtree(folder, ignore_errors=True)
