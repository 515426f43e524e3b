"""Run the desired state of serving on this machine: predictor processes behind a gateway, kept as the document says.

The document `deployments/<recommender>` in the store says which versions serve which share; `endcap run` and `endcap
deploy` write it. The supervisor looks at it several times a second (in a bucket: once). A new share is a new route and
nothing more; a new version is started beside the old one, takes over when it is ready, and the old one ends when it has
answered all it was asked. Whatever ends the supervisor ends its processes: signals and errors through `close`, SIGKILL
through the kernel.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from endcap.deploy.state import Deployment, Target, read_state
from endcap.errors import EndcapError, UserError
from endcap.processes import alive
from endcap.store import Store, storage_errors

from . import fallback
from .envoy_process import Envoy
from .events import (
    GatewayFailed,
    GatewayNotRestarted,
    Listener,
    Loading,
    PredictorEnded,
    Routed,
    Served,
    StateUnreadable,
    Stopped,
)
from .gateway import Split, Upstream
from .intake_process import IntakeProcess
from .predictors import Predictor, Variant
from .process import end_all

TICK = 0.1
"""Seconds between two looks at the document and the processes."""
REMOTE_TICK = 1.0
"""Seconds between two looks at the document where the store is not on this machine."""
DRAIN_LEAST, DRAIN_MOST = 0.5, 30.0
"""Seconds that a predictor lives on after its last request was routed to it: for routes on their way to Envoy's worker,
and for answers that take long."""
KEPT_RUNS = 5
_RUN = re.compile(r"\d{8}T\d{6}-\d+-.+")


def serve(
    store: Store,
    recommender: str,
    *,
    host: str = "127.0.0.1",
    port: int = 8080,
    listener: Listener = print,
) -> None:
    """Serve what is deployed until SIGINT, SIGTERM or SIGHUP; from the main thread.

    port 0: any free one. listener: is called with each event, such as `Served` with the address. Raises NotFoundError
    where nothing is deployed, UserError where the port is taken, IntegrityError where the stable version's package is
    damaged, EndcapError where it cannot be started.
    """

    def ready(address: str) -> None:
        listener(Served(recommender, address))

    stop = threading.Event()
    with _signals(stop):
        _run(Supervisor(store, recommender, host, port, listener), stop, ready)


@contextlib.contextmanager
def serving(
    store: Store, recommender: str, *, host: str = "127.0.0.1", port: int = 0, listener: Listener = print
) -> Iterator[str]:
    """The same for the length of a block: ``with serving(store, name) as address``. Errors as in `serve`."""
    stop, started = threading.Event(), threading.Event()
    addresses: list[str] = []
    errors: list[BaseException] = []

    def ready(address: str) -> None:
        addresses.append(address)
        started.set()

    def run() -> None:
        try:
            _run(Supervisor(store, recommender, host, port, listener), stop, ready)
        except BaseException as error:
            errors.append(error)
            if started.is_set():
                listener(Stopped(_as_own(error)))
        finally:
            started.set()

    # One thread starts all processes and lives until they have ended: see leash.py.
    thread = threading.Thread(target=run, name=f"serving-{recommender}", daemon=True)
    thread.start()
    try:
        started.wait()
        if errors:
            raise errors[0]
        yield addresses[0]
    finally:
        stop.set()
        thread.join()


class Supervisor:
    """Processes of one recommender. `start` once, `step` again and again, `close` in any case; all from one thread."""

    def __init__(self, store: Store, recommender: str, host: str, port: int, listener: Listener) -> None:
        self._store = store
        self._recommender = recommender
        self._host, self._port = host, port
        self._listener = listener
        self._wanted = read_state(recommender, store)
        # What is routed by: it stays the old one until the stable version of a new one is ready.
        self._effective = self._wanted
        _check_port(host, port)
        self.folder = _run_folder(store, recommender)
        self._stable = Variant("stable", lambda target: self._predictor("stable", target), listener)
        self._canary = Variant("canary", lambda target: self._predictor("canary", target), listener)
        self._shadow = Variant("shadow", lambda target: self._predictor("shadow", target), listener)
        self._fallback = fallback.Server(lambda: {recommender: self._effective.terms})
        self._intake = IntakeProcess(store, recommender, self.folder, listener)
        self._leaving: list[tuple[Predictor, float]] = []
        self._unreadable = ""
        self._rest = 0.0 if store.root.startswith("file://") else REMOTE_TICK
        self._looked = time.monotonic()
        self._envoy: Envoy | None = None
        self._split: Split | None = None

    @property
    def address(self) -> str:
        if self._envoy is None:
            raise EndcapError("the gateway has not started", code="serving.not-started", recommender=self._recommender)
        return self._envoy.address

    def start(self, stop: threading.Event) -> None:
        """Return when the stable version answers, and canary and intake unless they failed; or when `stop` is set."""
        began = said = time.monotonic()
        while not stop.wait(TICK):
            self.step()
            if self._stable.error:
                raise self._cannot_serve(self._stable.error)
            canary = self._wanted.canary is None or self._canary.current or self._canary.error
            if self._envoy and canary and self._intake.settled:
                return
            if time.monotonic() - said > 5:
                said = time.monotonic()
                self._listener(Loading(round(said - began, 1)))

    def step(self) -> None:
        """Look once, do what is to be done, do not wait for predictors."""
        self._read_document()
        self._leave(self._stable.tend(self._wanted.stable))
        if self._stable.serves(self._wanted.stable):
            self._effective = self._wanted
        self._leave(self._canary.tend(self._effective.canary))
        self._leave(self._shadow.tend(self._effective.shadow))
        if self._stable.current:
            self._intake.tend(self._stable.current.package)
            self._route(self._split_now(self._stable.current))
        self._drain()

    def close(self) -> None:
        """End every process, and return when all have ended."""
        variants = (self._stable, self._canary, self._shadow)
        predictors = [one for variant in variants for one in (variant.current, variant.coming) if one]
        processes = [predictor.process for predictor in [*predictors, *(leaving for leaving, _ in self._leaving)]]
        processes += [process for process in (self._intake.process, self._envoy and self._envoy.process) if process]
        end_all(processes)
        self._fallback.close()

    def _cannot_serve(self, cause: EndcapError) -> EndcapError:
        version = self._wanted.stable.version
        return EndcapError(
            f"{self._recommender} version {version} cannot be served: {cause}",
            code="serving.version-failed",
            recommender=self._recommender,
            version=version,
            cause=cause.to_json(),
        )

    def _predictor(self, variant: str, target: Target) -> Predictor:
        return Predictor(self._recommender, variant, target, self._store, self.folder)

    def _read_document(self) -> None:
        if time.monotonic() - self._looked < self._rest:
            return
        self._looked = time.monotonic()
        try:
            wanted = read_state(self._recommender, self._store)
        except EndcapError as error:
            # Damaged or deleted while we serve: shoppers had better keep what works.
            if str(error) != self._unreadable:
                self._unreadable = str(error)
                self._listener(StateUnreadable(error))
            return
        self._unreadable = ""
        self._wanted = wanted

    def _split_now(self, stable: Predictor) -> Split:
        """Of what answers at this moment: the shoppers of a dead canary get the stable version until it is back.

        Not the other way round: a version that is still on trial is not given everyone.
        """
        state = self._effective
        canary, shadow = _answering(self._canary, state.canary), _answering(self._shadow, state.shadow)
        return Split(
            stable.upstream,
            canary,
            state.canary.share if canary and state.canary else 0.0,
            state.salt,
            shadow,
            state.shadow.share if shadow and state.shadow else 0.0,
            state.terms,
        )

    def _route(self, split: Split) -> None:
        if self._envoy is not None and self._envoy.process.ended is not None:
            self._listener(GatewayFailed(self._envoy.process.failure()))
            self._envoy = None
        if self._envoy is None:
            try:
                self._envoy = Envoy(
                    self.folder / "gateway",
                    self._host,
                    self._port,
                    self._recommender,
                    split,
                    fallback_port=self._fallback.port,
                    intake=self._intake.upstream,
                )
            except EndcapError as error:
                if self._split is None:
                    raise
                # Its port may be somebody's for a moment, such as a client's own end of a connection.
                self._listener(GatewayNotRestarted(error))
                return
            self._port = self._envoy.port
        elif split == self._split or not self._told(self._envoy, split):
            return
        self._split = split
        self._listener(_routed(split, self._effective, self._stable))

    def _told(self, envoy: Envoy, split: Split) -> bool:
        """Whether Envoy sends shoppers so now; False where it has died meanwhile: the next step starts another."""
        try:
            envoy.apply(split, [predictor.upstream for predictor, _ in self._leaving])
        except EndcapError:
            if envoy.process.ended is None:
                raise
            return False
        return True

    def _leave(self, predictors: list[Predictor]) -> None:
        self._leaving += [(predictor, time.monotonic()) for predictor in predictors]

    def _drain(self) -> None:
        """End predictors that are routed to no more, once they have answered what they were asked."""
        if self._envoy is None or self._split is None:
            return
        for leaving in list(self._leaving):
            predictor, since = leaving
            waited = time.monotonic() - since
            if waited < DRAIN_LEAST or predictor.upstream in self._split.upstreams:
                continue
            if self._envoy.active_requests(predictor.upstream) and waited < DRAIN_MOST:
                continue
            self._leaving.remove(leaving)
            # Where the gateway has died nobody is sent to it any more either.
            self._told(self._envoy, self._split)
            end_all([predictor.process])
            self._listener(PredictorEnded(predictor.target.version, predictor.process.name))


def _run(supervisor: Supervisor, stop: threading.Event, ready: Callable[[str], None]) -> None:
    try:
        supervisor.start(stop)
        if not stop.is_set():
            ready(supervisor.address)
        while not stop.wait(TICK):
            supervisor.step()
    finally:
        supervisor.close()


@contextlib.contextmanager
def _signals(stop: threading.Event) -> Iterator[None]:
    """SIGINT, SIGTERM and SIGHUP set `stop`; as before afterwards."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    for number in before:
        signal.signal(number, lambda *_: stop.set())
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _answering(variant: Variant, wanted: Target | None) -> Upstream | None:
    return variant.current.upstream if wanted and variant.current and variant.serves(wanted) else None


def _check_port(host: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UserError(
                f"port {port} on {host} cannot be listened on ({error.strerror}); give another (--port), or 0 for any",
                code="serving.port-taken",
                host=host,
                port=port,
                reason=error.strerror,
            ) from None


def _run_folder(store: Store, recommender: str) -> Path:
    """A folder for this run's logs and the gateway's files; the newest few of ended runs are kept."""
    runs = store.work_folder("serving", recommender)
    # Whatever else someone put there is none of ours.
    ours = sorted(old for old in runs.iterdir() if _RUN.fullmatch(old.name))
    for old in ours[: -KEPT_RUNS + 1]:
        if not alive(int(old.name.split("-")[1])):
            shutil.rmtree(old, ignore_errors=True)
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    with storage_errors(runs):
        return Path(tempfile.mkdtemp(prefix=f"{now}-{os.getpid()}-", dir=runs))


def _routed(split: Split, state: Deployment, stable: Variant) -> Routed:
    return Routed(
        stable.current.target.version if stable.current else state.stable.version,
        state.canary.version if split.canary and state.canary else None,
        split.share,
        state.shadow.version if split.shadow and state.shadow else None,
        split.shadow_share,
    )


def _as_own(error: BaseException) -> EndcapError:
    if isinstance(error, EndcapError):
        return error
    return EndcapError(f"{type(error).__name__}: {error}", code="serving.failed", kind=type(error).__name__)
