"""The step's side of the process that has Ray."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import queue
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from endcap.errors import TransientError, UserError, rebuild_error
from endcap.processes import exit_on_sigterm
from endcap.ray_driver.jobs import Connection, Driver, DriverJob, Event, WorkerNeeds

NICE = "RAY_worker_niceness"
_LONGEST_TEMP = 40
"""Letters of Ray's folder: the paths of its sockets are 66 longer, and the system allows 107."""
_TAIL = 1500
_CHILD = "endcap.ray_driver.child"
_MAIN = f"from {_CHILD} import main; main()"
_ENDS_WITHIN = 1.0
"""Seconds for Ray to end in order; what is left then is killed."""


class RayProcess:
    """Starts the process that has Ray, sends it jobs, returns its events, and ends it with all that it started.

    It is a context manager; within the block SIGTERM ends the process in order, too.

    Parameters
    ----------
    driver
        The kind of work that runs there.
    work
        Folder for Ray's log and files.
    address
        Address of a Ray cluster; None: Ray is started on this machine.
    cpus
        Cores of a Ray that is started here.
    needs
        Cores and GPUs of one worker.
    nice
        How far the workers give way to other processes, from 0 to 19.
    """

    def __init__(
        self, driver: Driver, work: Path, address: str | None, cpus: int, needs: WorkerNeeds, nice: int = 0
    ) -> None:
        self._driver, self._address = driver, address
        self._temp = _temporary_folder(work)
        self._log = work / "ray.log"
        self._connection = Connection(
            address=address,
            cpus=cpus,
            temp=str(self._temp),
            storage=str(work / "tune"),
            cpu=needs.cpu,
            gpu=needs.gpu,
            driver=driver.module,
            variables=driver.environment,
        )
        self._threads, self._nice = max(1, int(needs.cpu)), nice
        self._events: queue.Queue[Event | None] = queue.Queue()
        self._signals = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self._signals.enter_context(exit_on_sigterm())
        try:
            self._start()
        except BaseException:
            self._signals.close()
            raise
        return self

    def _start(self) -> None:
        path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
        environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": str(self._threads)}
        # Ray's default is 15: on a machine with other work its workers would hardly run.
        environment[NICE] = str(self._nice)
        # Ray would take this address instead of the one that it is given.
        environment.pop("RAY_ADDRESS", None)
        if self._address is None:
            # By default Ray writes a token into the home folder, which may be read-only.
            environment |= make_token_variables(secrets.token_hex(32)) | make_loopback_variables()
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _MAIN],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                bufsize=1,
                env=environment,
                start_new_session=True,
            )
        threading.Thread(target=self._read, daemon=True).start()
        self._send(dataclasses.asdict(self._connection))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._signals:
            with contextlib.suppress(OSError):
                assert self._process.stdin is not None
                self._process.stdin.close()
            if kind is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(_ENDS_WITHIN * 10)
            self.kill()

    def kill(self) -> None:
        """End the process, and Ray with it, whatever they do. Ray's own watchdog ends what Ray started."""
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_ENDS_WITHIN)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        shutil.rmtree(self._temp, ignore_errors=True)

    def begin(self, job: DriverJob) -> None:
        """Send a job, whose events `next_event` returns."""
        self._send(job.to_json())

    def events(self, job: DriverJob) -> Iterator[Event]:
        """Run a job: yield its events until it is over.

        Raises
        ------
        EndcapError
            The error of an `error` event, and what `next_event` raises.
        """
        self.begin(job)
        while (event := self.wait_event())["event"] != "over":
            if event["event"] == "error":
                raise rebuild_error(event["error"])
            yield event

    def wait_event(self) -> Event:
        """Return the next event, however long it takes. Raises what `next_event` raises."""
        while (event := self.next_event(1.0)) is None:
            continue
        return event

    def next_event(self, timeout: float) -> Event | None:
        """Return the next event, or None where there was none in `timeout` seconds.

        Raises
        ------
        TransientError
            The process has ended: Ray is gone.
        UserError
            Not even one worker fits into what Ray has.
        ClusterError
            A machine sees none of its GPUs.
        """
        try:
            event = self._events.get(timeout=max(0.0, timeout))
        except queue.Empty:
            return None
        if event is None:
            raise self._lost()
        if event["event"] == "refused" and event.get("error"):
            raise rebuild_error(event["error"])
        if event["event"] == "refused":
            section, needs = self._driver.section, self._connection
            raise UserError(
                f"a {self._driver.worker} asks for {needs.cpu:g} cores and {needs.gpu:g} GPUs "
                f"({section}.cpu, {section}.gpu), and Ray has {event['CPU']:g} and {event['GPU']:g}; ask for less, or "
                "give it more",
                code="search.no-room",
                section=section,
                wanted={"cpu": needs.cpu, "gpu": needs.gpu},
                found={"cpu": event["CPU"], "gpu": event["GPU"]},
            )
        return event

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with contextlib.suppress(ValueError):
                self._events.put(json.loads(line))
        self._events.put(None)

    def _send(self, document: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(document) + "\n")
        except OSError:
            raise self._lost() from None

    def _lost(self) -> TransientError:
        text = self._log.read_text(errors="replace")[-_TAIL:].strip()
        lines = [line for line in text.splitlines() if line.strip()]
        section, address = self._driver.section, self._address
        where = f"the Ray cluster at {address}" if address else f"Ray, which the {section} started here,"
        advice = "see that it is there and reachable, then run again" if address else "run again"
        last = f" ({lines[-1].strip()})" if lines else ""
        return TransientError(
            f"{where} is gone{last}; {advice}: {self._driver.kept}. Its log: {self._log}",
            code="search.ray-gone",
            section=section,
            address=address,
            reason=lines[-1].strip() if lines else None,
            log=str(self._log),
        )


def make_token_variables(token: str) -> dict[str, str]:
    """Return variables that make Ray ask for a token, and give it. Without, whoever reaches its ports may run code."""
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}


def make_loopback_variables() -> dict[str, str]:
    """Return variables that keep a Ray of this machine, and the workers of a fit, to the loopback interface.

    Ray takes 127.0.0.1 for a mistake, finds the machine's address by itself, and then listens on all interfaces. It
    does not on systems where it supports no clusters, and the first variable says that this is one.
    """
    loopback = next((name for _, name in socket.if_nameindex() if name.startswith("lo")), "lo")
    return {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "GLOO_SOCKET_IFNAME": loopback, "NCCL_SOCKET_IFNAME": loopback}


def _temporary_folder(work: Path) -> Path:
    """Return a short folder for Ray's sockets: below the work folder, or where that is too deep, the system's own."""
    inside = work / "ray"
    if len(str(inside)) <= _LONGEST_TEMP:
        inside.mkdir(parents=True, exist_ok=True)
        return inside
    return Path(tempfile.mkdtemp(prefix="endcap-ray-"))
