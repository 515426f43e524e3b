"""The step's hold on the process that has Ray."""

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
from typing import Any, ClassVar, Protocol, Self, TypeVar

from endcap.errors import TransientError, UserError, rebuild
from endcap.training.search.ray_process import Connection

Event = dict[str, Any]
NICE = "RAY_worker_niceness"
_LONGEST_TEMP = 40
"""Letters of Ray's folder: its sockets' paths are 66 longer, and the system allows 107."""
_TAIL = 1500
_CHILD = "endcap.training.search.ray_process"
_MAIN = f"from {_CHILD} import main; main()"
_ENDS_WITHIN = 1.0
"""Seconds for Ray to end in order; what is left then is killed."""


class Needs(Protocol):
    """What a worker needs: cores and GPUs."""

    @property
    def cpu(self) -> float: ...

    @property
    def gpu(self) -> float: ...


class Stage(Protocol):
    """What the process is to do."""

    def to_json(self) -> dict[str, Any]: ...


class RayProcess:
    """Starts the process, sends it stages, hands on its events, and ends it and all that it started."""

    driver: ClassVar[str]
    """The module whose `drive` carries out a stage."""
    section: ClassVar[str]
    """Of the recommender: what says where Ray is and what a worker gets."""
    worker: ClassVar[str]
    """What a worker is called in messages."""
    kept: ClassVar[str]
    """What is not lost where Ray is."""

    def __init__(self, work: Path, address: str | None, cpus: int, needs: Needs, nice: int = 0) -> None:
        """address: of a cluster, or None: Ray is started here, with so many cores. nice: how much its workers give way
        to other processes, from 0 to 19."""
        self._address = address
        self._temp = _temp(work)
        self._log = work / "ray.log"
        storage = work / "tune"
        self._connection = Connection(address, cpus, str(self._temp), str(storage), needs.cpu, needs.gpu)
        self._threads, self._nice = max(1, int(needs.cpu)), nice
        self._events: queue.Queue[Event | None] = queue.Queue()

    def __enter__(self) -> Self:
        path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
        environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": str(self._threads)}
        # Left to itself Ray runs its workers at 15: on a machine with other work they hardly come to run.
        environment[NICE] = str(self._nice)
        # Ray takes an address from there, whatever it is told.
        environment.pop("RAY_ADDRESS", None)
        if self._address is None:
            # Left to itself Ray would write one into the home folder, which may be no place to write.
            environment |= authentication(secrets.token_hex(32)) | on_loopback()
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _MAIN, self.driver],
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
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            assert self._process.stdin is not None
            self._process.stdin.close()
        if kind is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_ENDS_WITHIN * 10)
        self.kill()

    def kill(self) -> None:
        """End the process and Ray with it, whatever they are doing. Ray's own watchman ends what Ray started."""
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_ENDS_WITHIN)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        shutil.rmtree(self._temp, ignore_errors=True)

    def run(self, stage: Stage) -> None:
        """Begin a stage; `event` tells what becomes of it."""
        self._send(stage.to_json())

    def event(self, timeout: float) -> Event | None:
        """The next event, or None when there was none in `timeout` seconds.

        Raises TransientError, UserError, and ClusterError where a machine sees none of its GPUs.
        """
        try:
            event = self._events.get(timeout=max(0.0, timeout))
        except queue.Empty:
            return None
        if event is None:
            raise self._lost()
        if event["event"] == "refused" and event.get("error"):
            raise rebuild(event["error"])
        if event["event"] == "refused":
            c = self._connection
            raise UserError(
                f"a {self.worker} asks for {c.cpu:g} cores and {c.gpu:g} GPUs "
                f"({self.section}.cpu, {self.section}.gpu), and Ray has {event['CPU']:g} and {event['GPU']:g}; ask for "
                "less, or give it more",
                code="search.no-room",
                section=self.section,
                wanted={"cpu": c.cpu, "gpu": c.gpu},
                found={"cpu": event["CPU"], "gpu": event["GPU"]},
            )
        return event

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with contextlib.suppress(ValueError):
                self._events.put(json.loads(line))
        self._events.put(None)

    def _send(self, what: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(what) + "\n")
        except OSError:
            raise self._lost() from None

    def _lost(self) -> TransientError:
        said = self._log.read_text(errors="replace")[-_TAIL:].strip()
        lines = [line for line in said.splitlines() if line.strip()]
        here = f"Ray, which the {self.section} started here,"
        where = f"the Ray cluster at {self._address}" if self._address else here
        look = "see that it is there and reachable, then run again" if self._address else "run again"
        last = f" ({lines[-1].strip()})" if lines else ""
        return TransientError(
            f"{where} is gone{last}; {look}: {self.kept}. Its log: {self._log}",
            code="search.ray-gone",
            section=self.section,
            address=self._address,
            reason=lines[-1].strip() if lines else None,
            log=str(self._log),
        )


def authentication(token: str) -> dict[str, str]:
    """What makes Ray ask for a token, and give it: without, whoever reaches its ports may run code there."""
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}


def on_loopback() -> dict[str, str]:
    """What keeps a Ray of this machine alone, and the workers of a fit, to its loopback interface.

    Ray takes 127.0.0.1 for a mistake, finds the machine's address by itself, and then listens on all there are, but on
    systems where it knows no clusters.
    """
    loopback = next((name for _, name in socket.if_nameindex() if name.startswith("lo")), "lo")
    return {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "GLOO_SOCKET_IFNAME": loopback, "NCCL_SOCKET_IFNAME": loopback}


def _temp(work: Path) -> Path:
    """A short folder for Ray's sockets: below the work folder, or where that is too deep, the system's own."""
    inside = work / "ray"
    if len(str(inside)) <= _LONGEST_TEMP:
        inside.mkdir(parents=True, exist_ok=True)
        return inside
    return Path(tempfile.mkdtemp(prefix="endcap-ray-"))


@contextlib.contextmanager
def ended_by_signal() -> Iterator[None]:
    """SIGTERM, by which a pod is taken away, ends the block in order."""

    def at_end(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, at_end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


Ended = TypeVar("Ended", bound=RayProcess)


@contextlib.contextmanager
def ended_with(process: Ended) -> Iterator[Ended]:
    """The process, ended however the block ends, at SIGTERM too."""
    with ended_by_signal(), process:
        yield process
