"""The event intake beside this machine's predictors: one process that is started again if it ends or hangs."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path, PurePath

from endcap.errors import EndcapError
from endcap.online import NONE, ONLINE, resolve_online_url
from endcap.pseudonyms import Pseudonymiser, read_pseudonymiser
from endcap.registry.package import INFO, SPEC, read_info, read_recommender
from endcap.rollout.feed import choose_segment_age
from endcap.store import Store
from endcap_serving.gateway.routes import Upstream
from endcap_serving.local.events import IntakeFailed, Listener
from endcap_serving.local.predictors import LONGEST_WAIT, PROVEN, READY_WITHIN, find_free_port
from endcap_serving.local.process import Process
from endcap_serving.watchdog import Watchdog, make_http_check


class IntakeProcess:
    """The intake at a free port of loopback. The port stays the same for as long as the supervisor runs.

    Accepted records lie in the store's work folder for the recommender, also after a kill. They are sealed to the
    store's folder `intake`.

    Parameters
    ----------
    store
        The store.
    recommender
        The recommender's name.
    folder
        The run's folder, where the log lies.
    listener
        Gets an event if the intake fails.

    Attributes
    ----------
    upstream
        Where the gateway sends events.
    process
        The process; None if none runs.
    pseudonymiser
        What it maps shoppers by; None if it does not.
    is_replaced
        Whether it was asked to end, so that it starts again with shorter segments.
    """

    def __init__(self, store: Store, recommender: str, folder: Path, listener: Listener) -> None:
        self.upstream = Upstream("intake", find_free_port(), kind="intake")
        self.process: Process | None = None
        self.pseudonymiser: Pseudonymiser | None = None
        self._options = {
            "--folder": str(store.work_folder("intake", recommender)),
            "--out": f"{store.root.removeprefix('file://')}/intake",
            "--host": "127.0.0.1",
            "--port": str(self.upstream.port),
        }
        # The address may hold a password, and all users of a machine can read a command line.
        self._online = {ONLINE: resolve_online_url(store_root=store.root) or NONE}
        self._log = folder / "intake.log"
        self._listener = listener
        self._failures = 0
        self.is_replaced = False
        self._age = 0.0
        self._watchdog: Watchdog | None = None
        self._started = self._retry_at = 0.0

    @property
    def is_started(self) -> bool:
        """Whether a package has said the shop's name, so that the intake was started, or was tried to."""
        return self._started > 0.0

    @property
    def is_settled(self) -> bool:
        """Whether the intake takes events, or has failed so that nobody shall wait for it."""
        if self.process is None or self._failures:
            return bool(self._failures)
        is_ready = make_http_check(f"http://127.0.0.1:{self.upstream.port}/readyz")(READY_WITHIN)
        if is_ready and self._watchdog is not None:
            self._watchdog.note_answer()
        return is_ready

    def reconcile(self, packages: Sequence[Path]) -> None:
        """Start the intake if it does not run, and kill it if it hangs. Does not wait.

        A version that comes later may have a policy with faster looks. Then the intake ends in order, and starts again
        with shorter segments: a look must not wait for a longer segment than its policy counts on.

        Parameters
        ----------
        packages
            The folders of the packages that answer, the stable version's first. It says the shop's name.
        """
        now = time.monotonic()
        age = min(choose_age_for(package) for package in packages)
        if self.process is not None and age < self._age and not self.is_replaced:
            self.is_replaced = True
            self.process.ask_to_end()
        if self.is_replaced and self.process is not None and self.process.exit_status == 0:
            self.close()
            self.process = None
        elif failure := self._find_failure():
            self._failures = 1 if now - self._started > PROVEN else self._failures + 1
            wait = min(2.0 ** (self._failures - 1), LONGEST_WAIT)
            self._retry_at = now + wait
            self.close()
            self.process = None
            self._listener(IntakeFailed(wait, failure))
        if self.process is None and now >= self._retry_at:
            self._started, self._age, self.is_replaced = now, age, False
            package = packages[0]
            options = {**self._options, "--shop": read_shop_name(package), "--segment-age": f"{age:g}s"}
            arguments = [argument for option in options.items() for argument in option]
            if has_pseudonyms(package):
                arguments.append("--pseudonyms")
                self.pseudonymiser = read_pseudonymiser()
            command = [sys.executable, "-m", "endcap_serving.intake", *arguments]
            self.process = Process("intake", command, self._log, self._online)
            check = make_http_check(f"http://127.0.0.1:{self.upstream.port}/healthz")
            self._watchdog = Watchdog("intake", self.process.pid, check)

    def close(self) -> None:
        """Stop the watchdog."""
        if self._watchdog is not None:
            self._watchdog.close()

    def _find_failure(self) -> EndcapError | None:
        """Return why the process ended or hangs; kill it if it hangs. None: it is well, or does not run."""
        if self.process is None or self._watchdog is None:
            return None
        if self.process.exit_status is not None:
            return self.process.read_failure()
        if hang := self._watchdog.hang:
            self.process.kill()
        return hang


@cache
def choose_age_for(package: Path) -> float:
    """Return the age of segments, in seconds, that a package's policy counts on. Packages do not change."""
    return choose_segment_age(read_recommender(package).rollout)


def has_pseudonyms(package: Path) -> bool:
    """Tell whether a package was trained on pseudonyms, so that nothing beside it may keep ids of shoppers."""
    return read_info(package).get("pseudonyms") is not None


def read_shop_name(package: Path) -> str:
    """Read a shop's name from one of its packages. The online store keeps the shop's data under this name.

    Parameters
    ----------
    package
        The package's folder.
    """
    dataset = str(json.loads((package / INFO).read_text()).get("dataset") or "").split("/")
    return dataset[-2] if len(dataset) > 1 else PurePath(json.loads((package / SPEC).read_text())["shop"]).stem
