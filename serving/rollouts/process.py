"""The controller's process: a thread that keeps the Lease, and the loop, which acts while it is held."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from endcap.ab.cluster_tests import ClusterTests
from endcap.cluster.lease import ClusterLease
from endcap.errors import EndcapError
from endcap.retries import disable_retries
from endcap.rollout.cluster_loop import PLACES, ClusterRollouts, RecommenderReport
from endcap_serving.json_log import make_log_fields
from endcap_serving.rollouts import metrics

log = logging.getLogger("endcap.rollouts")
RENEWAL = 3.0
"""Seconds between two attempts to take or renew the Lease."""
RETRY = 1.0
"""Seconds until the next one if the API server did not answer, or refused for now: so its return is noticed soon.

A longer wait that the server asks for is not kept. One request a second is little, and shoppers wait for it.
"""
PAUSE = 2.0
"""Seconds between two rounds. Whatever was away is back in the traffic after one of them."""
STUCK = 120.0
"""Seconds without the end of a round after which a holder of the Lease is taken for stuck."""


class RolloutProcess:
    """Runs rounds while this process holds the Lease.

    Parameters
    ----------
    lease
        Who holds it acts.
    make_rollouts, make_tests
        Make the loops of rollouts and of A/B tests, once the Lease was held for the first time.
    read_seconds
        A clock that never goes back, in seconds.
    """

    def __init__(
        self,
        lease: ClusterLease,
        make_rollouts: Callable[[], ClusterRollouts],
        make_tests: Callable[[], ClusterTests] | None = None,
        read_seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lease, self._make_rollouts, self._read_seconds = lease, make_rollouts, read_seconds
        self._make_tests = make_tests
        self._rollouts: ClusterRollouts | None = None
        self._tests: ClusterTests | None = None
        self._stop, self._wake = threading.Event(), threading.Event()
        self._ended = read_seconds()
        self._troubles: dict[str, str] = {}
        self._threads = [
            threading.Thread(target=run, name=name, daemon=True)
            for name, run in (("lease", self._keep_lease), ("lift", self._run_lifts), ("ab", self._run_tests))
        ]

    @property
    def is_well(self) -> bool:
        """Whether the process does its work: rounds end, or another process has the Lease."""
        return self._read_seconds() - self._ended < STUCK

    def run(self) -> None:
        """Run until `stop`. Then the Lease is free at once."""
        for thread in self._threads:
            thread.start()
        try:
            while self._wait_for_round():
                if not self._lease.is_held:
                    self._ended = self._read_seconds()
                    continue
                self._run_round()
        finally:
            for thread in self._threads:
                thread.join()
            with disable_retries():
                self._lease.release()

    def stop(self, *_: Any) -> None:
        """End after the round that is under way."""
        self._stop.set()
        self._wake.set()

    def _wait_for_round(self) -> bool:
        """Wait until the next round is due, or the Lease was taken. False: the process ends."""
        self._wake.wait(PAUSE)
        self._wake.clear()
        return not self._stop.is_set()

    def _run_round(self) -> None:
        def run() -> list[RecommenderReport]:
            self._rollouts = self._rollouts or self._make_rollouts()
            return self._rollouts.tick()

        if self._attempt("round", run, PLACES):
            metrics.count_round()
            self._ended = self._read_seconds()

    def _run_lifts(self) -> None:
        while not self._stop.wait(PAUSE):
            # The rounds make the loop.
            if self._lease.is_held and self._rollouts is not None:
                self._attempt("lift", self._rollouts.look_at_lifts, ("lift",))

    def _run_tests(self) -> None:
        make = self._make_tests
        if make is None:
            return

        def run() -> list[RecommenderReport]:
            self._tests = self._tests or make()
            return self._tests.tick()

        while not self._stop.wait(PAUSE):
            if self._lease.is_held:
                self._attempt("ab", run, ("ab",))

    def _attempt(self, name: str, run: Callable[[], list[RecommenderReport]], places: Sequence[str]) -> bool:
        """Run something over all recommenders, and tell whether it came to its end.

        What failed is tried again by the next attempt, and holds up nobody else.
        """
        with disable_retries():
            try:
                reports = run()
            except EndcapError as error:
                metrics.ERRORS.labels(name, error.code).inc()
                self._tell(name, error)
                return False
            except Exception as error:
                metrics.ERRORS.labels(name, "unexpected").inc()
                log.exception("a %s failed", name, extra=make_log_fields(error))
                return False
        metrics.count_errors(reports)
        self._tell(name, None)
        for report in reports:
            for place in places:
                self._tell(f"{report.recommender}/{place}", report.errors.get(place))
        return True

    def _keep_lease(self) -> None:
        while True:
            was_held, pause = self._lease.is_held, RENEWAL
            with disable_retries():
                try:
                    self._lease.acquire()
                    self._tell("lease", None)
                except EndcapError as error:
                    metrics.ERRORS.labels("lease", error.code).inc()
                    self._tell("lease", error)
                    pause = RETRY
            metrics.LEADER.set(float(self._lease.is_held))
            if self._lease.is_held != was_held:
                log.info("this process %s", "acts now" if self._lease.is_held else "does not act any more")
                self._wake.set()
            if self._stop.wait(pause):
                return

    def _tell(self, place: str, error: EndcapError | None) -> None:
        """Log an error once, and not at each attempt; and that it has passed."""
        before = self._troubles.get(place, "")
        if error is None:
            if self._troubles.pop(place, ""):
                log.info("%s works again", place)
        elif before != str(error):
            self._troubles[place] = str(error)
            log.warning("%s failed, and is tried again", place, extra=make_log_fields(error))
