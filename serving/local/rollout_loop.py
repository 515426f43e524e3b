"""Rollouts, A/B tests and lift of the served recommender, beside its supervisor: threads that look when it is due."""

from __future__ import annotations

import threading

from endcap.ab.controller import AbController, guard_test
from endcap.deploy.pins import read_pin
from endcap.errors import EndcapError
from endcap.experiments.ab_log import AbLog, AbLogEntry
from endcap.experiments.decision_log import DecisionLog
from endcap.experiments.log_entry import RolloutLogEntry
from endcap.messages import Message, Messenger
from endcap.registry import resolve_registry_url
from endcap.rollout.controller import RolloutController
from endcap.rollout.lift import LiftWatcher
from endcap.rollout.messages import RolloutMessage
from endcap.rollout.request_watcher import GuardrailWatcher
from endcap.rollout.version_queue import VersionQueue
from endcap.store import Store
from endcap_serving.errors import wrap_error
from endcap_serving.local.events import AbChanged, Listener, RolloutChanged, RolloutTroubled

_PAUSE = 2.0
"""Seconds between two readings of what predictors and Envoy counted. Each asks whether a look is due, too."""


class RolloutLoop:
    """Runs from `start` to `close`, in threads of its own: a look reads files, and no request may wait for that.

    The lift over popularity has a thread of its own, so that no guardrail waits for it.

    Parameters
    ----------
    store, recommender
        What is served.
    listener
        Gets an event for each change of the rollout or test, and for each error, which the next look follows.
    watcher
        Measures the guardrails.
    """

    def __init__(self, store: Store, recommender: str, listener: Listener, watcher: GuardrailWatcher) -> None:
        self._store, self._recommender, self._listener, self._watcher = store, recommender, listener, watcher
        self._messenger = Messenger(store)
        self._stop = threading.Event()
        self._troubles: dict[str, str] = {}
        self._threads = [
            threading.Thread(target=run, name=f"{name}-{recommender}", daemon=True)
            for name, run in (("rollout", self._run), ("lift", self._run_lift))
        ]
        self._pin = ""

    def start(self) -> None:
        """Begin to look, and to deliver messages that earlier processes left."""
        self._messenger.start()
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """End after the looks that are under way."""
        self._stop.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()
        self._messenger.close()

    def _run(self) -> None:
        log, tests = DecisionLog(self._store, self._recommender), AbLog(self._store, self._recommender)
        controllers: tuple[RolloutController, AbController] | None = None
        while not self._stop.wait(_PAUSE):
            try:
                if controllers is None:
                    # Without a rollout the registry's client, which takes seconds to import, is not needed.
                    if log.find_last() is None and tests.find_last() is None:
                        continue
                    controllers = self._make_controllers()
                    # One may wait since a process that ended right after a rollout or a test did.
                    VersionQueue(controllers[0]).start_waiting()
                rollouts, ab = controllers
                steps = self._look(rollouts), self._look_at_test(ab)
                if any(step is not None for step in steps) or self._was_unpinned():
                    VersionQueue(rollouts).start_waiting()
                self._troubles.pop("rollout", None)
            except Exception as error:
                self._tell("rollout", wrap_error(error))

    def _run_lift(self) -> None:
        watcher = LiftWatcher(self._store, self._recommender, notify=[self._send])
        while not self._stop.wait(_PAUSE):
            try:
                watcher.look_if_due()
                self._troubles.pop("lift", None)
            except Exception as error:
                self._tell("lift", wrap_error(error))

    def _was_unpinned(self) -> bool:
        """Tell whether a pin was taken away since the last call: a version may wait for that."""
        before, self._pin = self._pin, read_pin(self._recommender, self._store)
        return bool(before) and not self._pin

    def _look(self, controller: RolloutController) -> RolloutLogEntry | None:
        """Read what was counted, and look if that is due; None if nothing was done."""
        running = controller.find_running()
        return controller.look_if_due(is_broken=running is not None and self._watcher.poll(*running))

    def _look_at_test(self, controller: AbController) -> AbLogEntry | None:
        """Do the same for an A/B test. While one runs, no rollout asks for what was counted."""
        running = controller.find_running()
        broken = [] if running is None else self._watcher.poll_arms(guard_test(running[0]), running[1].rollout)
        return controller.look_if_due(is_broken=bool(broken))

    def _make_controllers(self) -> tuple[RolloutController, AbController]:
        place = (self._store, self._recommender, resolve_registry_url() or None)
        return (
            RolloutController(*place, watcher=self._watcher, notify=[self._send]),
            AbController(*place, watcher=self._watcher, notify=[self._send_of_test]),
        )

    def _send_of_test(self, message: Message) -> None:
        problem = self._messenger.send(message)
        self._listener(AbChanged(message.kind, message.facts["shares"], message.text, problem))

    def _send(self, message: RolloutMessage) -> None:
        problem = self._messenger.send(message.to_message(self._store))
        self._listener(RolloutChanged(message.version, message.phase, message.share, message.sentence, problem))

    def _tell(self, of: str, error: EndcapError) -> None:
        # An error that lasts is told once.
        if str(error) != self._troubles.get(of):
            self._troubles[of] = str(error)
            self._listener(RolloutTroubled(error))
