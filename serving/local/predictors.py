"""Predictor processes of one variant: the one that answers, the one that starts, and the last failure."""

from __future__ import annotations

import itertools
import os
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from endcap.deploy.state import Target
from endcap.errors import EndcapError
from endcap.online import NONE, ONLINE, resolve_online_url
from endcap.pseudonyms import KEY
from endcap.registry.package import read_info, read_recommender
from endcap.samples.key_file import find_key
from endcap.spec.serving import SAMPLES
from endcap.store import Store
from endcap_serving.errors import wrap_error
from endcap_serving.gateway.routes import Upstream
from endcap_serving.local.events import Listener, PredictorFailed, PredictorReady, PredictorStarted
from endcap_serving.local.process import Process, end_processes
from endcap_serving.watchdog import Watchdog, make_http_check

START_LIMIT = 120.0
"""Seconds that a predictor may take to be ready."""
PROVEN = 60.0
"""Seconds. A predictor that ran for longer is started again at once if it ends. Otherwise each wait is twice as long as
the one before."""
LONGEST_WAIT = 30.0
"""Seconds between two starts at most."""
READY_WITHIN = 2.0
"""Seconds that a predictor may take to say whether it is ready."""
_numbers = itertools.count(1)


class PredictorProcess:
    """One predictor process at a free port of loopback.

    Parameters
    ----------
    recommender
        The recommender's name.
    variant
        stable, canary, previous, baseline or shadow.
    target
        The version and the address of its package.
    store
        The store with the package.
    folder
        The run's folder, where the log lies.

    Attributes
    ----------
    package
        The package's folder, which was checked.
    upstream
        Where the gateway sends requests.
    started
        When the process was started, by `time.monotonic`.

    Raises
    ------
    IntegrityError, NotFoundError
        The package is damaged or does not exist.
    OSError
        The process cannot be started.
    """

    def __init__(self, recommender: str, variant: str, target: Target, store: Store, folder: Path) -> None:
        # A bad package raises here, where the caller can handle it, rather than in the process.
        package = store.fetch(target.package, verify=True)
        name = f"{variant}-version-{target.version}-{next(_numbers)}"
        self.target = target
        self.package = package
        self.upstream = Upstream(name, find_free_port(), kind="shadow" if variant == "shadow" else "predictor")
        self.started = time.monotonic()
        self._check_ready = make_http_check(f"http://127.0.0.1:{self.upstream.port}/v2/models/{recommender}/ready")
        options = {
            "--package": str(package),
            "--model-name": recommender,
            "--version": target.version,
            "--variant": variant,
            "--host": "127.0.0.1",
            "--port": str(self.upstream.port),
            # Everybody who reaches loopback may see what this user may.
            "--scope-from": "gateway",
            # Other predictors and programs of this machine need its cores too.
            "--threads": "1",
        }
        arguments = [argument for option in options.items() for argument in option]
        command = [sys.executable, "-m", "endcap_serving.predictor", *arguments]
        # The address may hold a password, and all users of a machine can read a command line.
        variables = {ONLINE: resolve_online_url(store_root=store.root) or NONE}
        variables |= _make_sampling_variables(store, package)
        self.process = Process(name, command, folder / f"{name}.log", variables)
        check = make_http_check(f"http://127.0.0.1:{self.upstream.port}/v2/health/live")
        self.watchdog = Watchdog(name, self.process.pid, check)

    @property
    def age(self) -> float:
        """Seconds since the process was started."""
        return time.monotonic() - self.started

    def is_ready(self) -> bool:
        """Ask the process whether it is ready to answer."""
        ready = self._check_ready(READY_WITHIN)
        if ready:  # The process may be stopped before the watchdog asks its first question.
            self.watchdog.note_answer()
        return ready

    def find_failure(self) -> EndcapError | None:
        """Return why the process ended or hangs; kill it if it hangs. None: it is well."""
        if self.process.exit_status is not None:
            self.watchdog.close()
            return self.process.read_failure()
        if hang := self.watchdog.hang:
            self.end(0.0)
        return hang

    def end(self, patience: float = 5.0) -> None:
        """Ask the process to end, and kill it after `patience` seconds. 0: kill it at once."""
        self.watchdog.close()
        if patience:
            end_processes([self.process], patience)
        else:
            self.process.kill()


@dataclass
class VariantProcesses:
    """The predictors of one variant, which follow a target step by step.

    Parameters
    ----------
    name
        stable, canary, previous, baseline or shadow.
    start
        Starts a predictor of a target.
    listener
        Gets an event if a predictor starts, is ready, or fails.
    current
        The predictor that answers. It was well at the last look.
    starting
        The predictor that is to replace it, and is not ready yet.
    failures
        Failures in a row.
    error
        The last failure; None after the next success.
    """

    name: str
    start: Callable[[Target], PredictorProcess]
    listener: Listener
    current: PredictorProcess | None = None
    starting: PredictorProcess | None = None
    failures: int = 0
    error: EndcapError | None = None
    _retry_at: float = 0.0
    _failed: Target | None = field(default=None)

    def reconcile(self, target: Target | None) -> list[PredictorProcess]:
        """Note predictors that ended, start one, or let one that is ready take over. Does not wait.

        Parameters
        ----------
        target
            What the variant shall serve; None: nothing.

        Returns
        -------
        list[PredictorProcess]
            Predictors that get no new requests from now on. The caller ends them when they have answered the old ones.
        """
        target = Target(version=target.version, package=target.package) if target else None
        draining: list[PredictorProcess] = []
        failures = self.failures
        self._check_current()
        if self.starting and self.starting.target != target:
            self.starting.end(0.0)
            self.starting = None
        if self.current and target is None:
            draining.append(self.current)
            self.current = None
        if self.starting:
            draining += self._check_starting(self.starting)
        # After a failure the caller may decide that it was one too many, before another process starts.
        if target and not self.starting and not self.is_serving(target) and self.failures == failures:
            self._start(target)
        return draining

    def adopt(self, predictor: PredictorProcess) -> PredictorProcess | None:
        """Have another variant's predictor answer from now on. Returns the one that it replaces, if there is one."""
        if self.starting:
            self.starting.end(0.0)
        replaced, self.current, self.starting, self.error = self.current, predictor, None, None
        return replaced

    def release(self, target: Target) -> PredictorProcess | None:
        """Hand over the current predictor if it is well and serves this version; the variant has none then."""
        self._check_current()
        released = self.current if self.is_serving(target) else None
        if released:
            self.current = None
        return released

    def is_serving(self, target: Target) -> bool:
        """Return whether the current predictor serves this version."""
        current = self.current.target if self.current else None
        return current == Target(version=target.version, package=target.package)

    def _check_current(self) -> None:
        """Note a failure of the current predictor."""
        if self.current and (failure := self.current.find_failure()):
            failed_predictor, self.current = self.current, None
            if failed_predictor.age > PROVEN:
                self.failures = 0
            self._fail(failed_predictor.target, failure)

    def _check_starting(self, starting: PredictorProcess) -> list[PredictorProcess]:
        """Note a failure of the starting predictor, or let it take over. Returns the one that it replaces."""
        if failure := starting.find_failure():
            self.starting = None
            self._fail(starting.target, failure)
        elif starting.is_ready():
            self.listener(PredictorReady(starting.target.version, self.name, round(starting.age, 3)))
            previous, self.current, self.starting, self.error = self.current, starting, None, None
            return [previous] if previous else []
        elif starting.age > START_LIMIT:
            starting.end(0.0)
            self.starting = None
            self._fail(starting.target, _make_late_error(starting.process))
        return []

    def _start(self, target: Target) -> None:
        """Start a predictor, if it is time."""
        if self._failed != target:
            self.failures, self._retry_at = 0, 0.0
        if time.monotonic() < self._retry_at:
            return
        try:
            self.starting = self.start(target)
        except Exception as error:  # The store, the disk or the system failed. The next try may succeed.
            self._fail(target, wrap_error(error))
        else:
            process = self.starting.process
            self.listener(PredictorStarted(target.version, self.name, process.pid, process.log))

    def _fail(self, target: Target, error: EndcapError) -> None:
        """Note a failure, and set when the next predictor starts."""
        wait = min(2.0 ** (self.failures - 1), LONGEST_WAIT) if self.failures else 0.0
        self.failures += 1
        self.error = error
        self._failed = target
        self._retry_at = time.monotonic() + wait
        self.listener(PredictorFailed(target.version, self.name, wait, error))


def _make_sampling_variables(store: Store, package: Path) -> dict[str, str]:
    """Make the variables that say where request samples go, and by which key; none if the package asks for none.

    Nobody else gets the key: it is in no argument, and in no file of the store.
    """
    if not read_recommender(package).serving.samples.share:
        return {}
    address = os.environ.get(SAMPLES) or f"{store.root.removeprefix('file://')}/samples"
    if read_info(package).get("pseudonyms") is not None:
        # The shop has a key, which is in the environment already, or the predictor says that it is missing.
        return {SAMPLES: address}
    return {SAMPLES: address, KEY: find_key(store, create=True)}


def _make_late_error(process: Process) -> EndcapError:
    """Make the error for a predictor that takes too long to be ready."""
    return EndcapError(
        f"the predictor was not ready within {START_LIMIT:.0f} s; see {process.log}",
        code="serving.predictor-late",
        process=process.name,
        seconds=START_LIMIT,
        log=str(process.log),
    )


def find_free_port() -> int:
    """Find a port of loopback at which nobody listens at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
