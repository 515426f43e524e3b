"""The loop of a rollout: it looks, decides, and carries out, again and again; killed anywhere, it goes on.

The decision log holds where a rollout stands, and the desired state `deployments/<recommender>` what is served. The
controller is the only writer from one to the other. Two controllers at once do no harm: the log takes one of two looks,
and what is carried out is the same.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Literal, Protocol

from endcap.deploy.pins import read_pin, refuse_pinned
from endcap.deploy.state import find_state
from endcap.errors import EndcapError, NotFoundError
from endcap.experiments.decision import decide
from endcap.experiments.decision_log import DecisionLog
from endcap.experiments.entry_progress import EntryProgress
from endcap.experiments.evidence import GuardrailEvidence
from endcap.experiments.exclusion import refuse_during_rollout, refuse_during_test
from endcap.experiments.log_entry import RolloutLogEntry
from endcap.experiments.rollout_state import GUARDED, RolloutCommand, RolloutState
from endcap.rollout.candidates import Candidates
from endcap.rollout.carrying_out import carry_out, find_salt, read_share, return_traffic, send_message
from endcap.rollout.feed import IntakeOutput
from endcap.rollout.messages import Notify
from endcap.rollout.observation import RolloutObserver
from endcap.rollout.step_runner import StepRunner
from endcap.spec.rollout import RolloutSpec
from endcap.store import Store
from endcap.store.base import Hold

_VAIN_PAUSE = 60.0
"""Seconds before a broken guardrail asks for a look again, if the last one did not take the version back."""


class RequestWatcher(Protocol):
    """Measures the operational guardrails of an arm."""

    def measure(
        self, state: RolloutState, policy: RolloutSpec, now: datetime
    ) -> tuple[Iterable[GuardrailEvidence], Mapping[str, str]]:
        """Return the evidence of each guardrail, and what could not be read, with the reason."""


class RolloutController:
    """Drives the rollouts of one recommender.

    Parameters
    ----------
    store
        Holds log, desired state, packages, and beside it the intake's files.
    recommender
        Its name.
    registry_uri
        MLflow's address; None: the store's own.
    watcher
        Measures the guardrails; None: nobody does, so a policy with guardrails holds.
    notify
        Who gets messages.
    read_clock
        Returns the present moment, UTC.
    intake
        Where the intake writes, and how soon; None: as beside `endcap serve`.
    follow
        Called as soon as the desired state says what was decided, before the registry does. It raises nothing.

    Attributes
    ----------
    log
        Every look, decision and command.
    candidates
        The versions that a rollout may be about.
    """

    def __init__(
        self,
        store: Store,
        recommender: str,
        registry_uri: str | None = None,
        *,
        watcher: RequestWatcher | None = None,
        notify: Sequence[Notify] = (),
        read_clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        intake: IntakeOutput | None = None,
        follow: Callable[[], None] = lambda: None,
    ) -> None:
        self.store, self.recommender, self.read_clock = store, recommender, read_clock
        self.log = DecisionLog(store, recommender)
        self.candidates = Candidates(store, recommender, registry_uri)
        self._registry_uri, self._watcher, self._notify, self._intake = registry_uri, watcher, notify, intake
        self._follow = follow
        progress = EntryProgress(store, recommender)
        self._steps = StepRunner(store, recommender, progress, self.log.find_last, self._carry_out, self._send)
        self._observers: dict[tuple[str, ...], RolloutObserver] = {}
        self._policies: dict[str, RolloutSpec] = {}
        self._quiet_until = 0.0

    def look_if_due(self, *, is_broken: bool = False) -> RolloutLogEntry | None:
        """Look if the last look is older than the policy's `look_every`, or at once for a broken guardrail.

        Parameters
        ----------
        is_broken
            Whether a guardrail is broken. If the look does not take the version back, as with a wrong clock or a pin,
            the guardrail asks for no other for a minute: each look is an entry of the log.

        Returns
        -------
        RolloutLogEntry or None
            As `look` does; None if nothing was to be done.
        """
        last = self.log.find_last()
        if last is None:
            return None
        if self._is_dormant(last.after):
            return self.finish()
        if is_broken and time.monotonic() >= self._quiet_until:
            self._quiet_until = time.monotonic() + _VAIN_PAUSE
            return self.look()
        state = last.after
        due = state.looked is None or self.read_clock() - state.looked >= self.read_policy(state).look_every
        return self.look() if due and not state.is_over else self.finish()

    def find_running(self) -> tuple[RolloutState, RolloutSpec] | None:
        """Return the rollout whose version shoppers meet, and its policy; None if there is none."""
        last = self.log.find_last()
        if last is None or last.after.is_over or last.after.started is None or self._is_dormant(last.after):
            return None
        return last.after, self.read_policy(last.after)

    def read_policy(self, state: RolloutState) -> RolloutSpec:
        """Return the policy of the version that a rollout is about."""
        if state.package not in self._policies:
            try:
                self._policies[state.package] = self.candidates.require_policy(state.package, state.version)
            except NotFoundError:
                # The package is gone from the store. A rollout can be aborted nevertheless: the log has its policy.
                last = self.log.find_last()
                if last is None or last.after.package != state.package:
                    raise
                return self.log.read_policy(last.policy)
        return self._policies[state.package]

    def look(self) -> RolloutLogEntry | None:
        """Look at the rollout once, decide, and carry the decision out.

        Returns
        -------
        RolloutLogEntry or None
            The log's last entry; None if there was never a rollout.

        Raises
        ------
        UserError
            The desired state or the registry was changed so that the decision does not fit any more.
        TransientError
            The registry or the store does not answer. The next look goes on where this one ended.
        """
        self.finish()
        last = self.log.find_last()
        if last is None or last.after.is_over or self._is_dormant(last.after):
            return last
        state = last.after
        if state.phase not in GUARDED and self.candidates.has_vanished(state.version):
            why = f"version {state.version} is no longer in the registry, so it could never be promoted"
            return self.command(RolloutCommand("abort", "endcap", why))
        policy, now = self.read_policy(state), self.read_clock()
        guardrails, problems = self._watcher.measure(state, policy, now) if self._watcher else ((), {})
        served = read_share(state, self.store)
        observer = self._find_observer(state, policy)
        evidence = replace(
            observer.observe(state, now, guardrails, problems),
            share=served.share,
            share_since=served.since,
            popularity_only=served.popularity_only,
            pinned=read_pin(self.recommender, self.store),
        )

        if decide(state, evidence, policy, now).action == "roll_back" and self.log.find_last() == last:
            # Nothing was decided, and no command came, since this look began.
            self._return_traffic(state)

        def append() -> RolloutLogEntry:
            if read_pin(self.recommender, self.store) != evidence.pinned:
                # It was pinned, or unpinned, since this look began. The next one knows.
                return last
            return self.log.look(evidence, policy, now)

        return self._steps.advance(append)

    def finish(self) -> RolloutLogEntry | None:
        """Do what is missing of the log's last entry, as after a kill; None if nothing is.

        Raises
        ------
        UserError, TransientError
            As `look` does.
        """
        return self._steps.finish()

    def start(self, version: str) -> RolloutLogEntry:
        """Begin the rollout of a registered version, by the policy in its package.

        Raises
        ------
        UserError
            The version is not approved, is the champion, or its spec has no section `rollout`; there is no champion; or
            another rollout runs.
        NotFoundError
            There is no such version.
        """
        self.candidates.open_registry()

        def begin() -> RolloutLogEntry:
            refuse_during_test(self.recommender, self.store, "endcap rollout start")
            refuse_pinned(self.recommender, self.store)
            candidate, champion = self.candidates.get_version(version), self.candidates.require_champion(version)
            self.candidates.refuse_unfit(candidate, champion)
            policy, now = self.candidates.require_policy(candidate.package, version), self.read_clock()
            return self.log.begin(candidate.version, candidate.package, champion.version, champion.package, policy, now)

        return self._steps.advance(begin)

    def command(self, command: RolloutCommand) -> RolloutLogEntry:
        """Carry out a person's command: pause, resume, approve, promote or abort.

        Raises
        ------
        UserError
            There was never a rollout, or the command does not fit its state.
        """
        if (left := self.finish()) is not None and left.command == command:
            # The same call was killed before, and has ended now.
            return left

        if command.action == "abort":
            refuse_during_test(self.recommender, self.store, "endcap rollout abort")
            refuse_pinned(self.recommender, self.store)
            last = self.log.find_last()
            if last is not None and not last.after.is_over:
                self._return_traffic(last.after)

        def append() -> RolloutLogEntry:
            refuse_during_test(self.recommender, self.store, f"endcap rollout {command.action}")
            if command.action not in ("approve", "pause"):
                refuse_pinned(self.recommender, self.store)
            last = self.log.find_last()
            policy = self.read_policy(last.after) if last is not None else RolloutSpec()
            return self.log.command(command, policy, self.read_clock())

        return self._steps.advance(append)

    def roll_back(self, version: str, by: str, why: str) -> RolloutLogEntry:
        """Have the champion before come back, or another version: traffic, champion, message. The champion is rejected.

        Parameters
        ----------
        version
            The version that comes back; empty: the champion before.
        by, why
            Who asks, and the reason.

        Returns
        -------
        RolloutLogEntry
            The entry of the log. If an earlier call was killed, its entry, of which the rest is done now.

        Raises
        ------
        UserError
            A rollout runs (``rollout.runs``), there is no champion (``rollout.no-champion``) or none before
            (``rollout.no-champion-before``), or the version cannot come back (``rollout.version-unfit``).
        NotFoundError
            There is no such version.
        """
        if (left := self.finish()) is not None and left.kind == "rollback":
            return left
        self.candidates.open_registry()

        def append() -> RolloutLogEntry:
            refuse_during_rollout(self.recommender, self.store, "endcap registry rollback")
            refuse_pinned(self.recommender, self.store)
            champion = self.candidates.require_champion(version)
            if version:
                target = self.candidates.get_version(version)
                self.candidates.refuse_unfit(target, champion)
            else:
                target = self.candidates.require_champion_before(champion)
            leaving, back = ((each.version, each.package) for each in (champion, target))
            return self.log.roll_back(leaving, back, by, why, self.read_clock())

        return self._steps.advance(append)

    def _is_dormant(self, state: RolloutState) -> bool:
        """Tell whether a promoted version is not watched now: an A/B test runs, or another version serves everyone."""
        if state.phase not in GUARDED:
            return False
        desired = find_state(self.recommender, self.store)
        return desired is not None and not desired.is_settled_on(state.version)

    def _return_traffic(self, state: RolloutState) -> None:
        """Take the version from all shoppers before anything else, as a step that follows will do once more.

        A step waits while others decide on the recommender, and they may wait for a registry that is away. A process
        that is killed here leaves the version without shoppers, and the next look decides again.
        """
        # The step that follows meets the same error, and says so.
        with contextlib.suppress(EndcapError):
            return_traffic(state, self.store)
        self._follow()

    def _carry_out(self, entry: RolloutLogEntry, hold: Hold) -> None:
        policy = RolloutSpec() if entry.after.is_over else self.read_policy(entry.after)
        carry_out(entry, policy, self.store, self._registry_uri, hold, self._follow)

    def _send(self, entry: RolloutLogEntry) -> None:
        send_message(entry, self.store, self._notify)

    def _find_observer(self, state: RolloutState, policy: RolloutSpec) -> RolloutObserver:
        against = self._choose_comparator(state)
        key = (state.created.isoformat(), state.arm, against)
        if key not in self._observers:
            observer = RolloutObserver(state, against, policy, self.store, find_salt(state), self._intake)
            self._observers = {key: observer}
        return self._observers[key]

    def _choose_comparator(self, state: RolloutState) -> Literal["stable", "previous", "baseline"]:
        """Choose what a version is compared with: once it has no previous version beside it, the baseline."""
        if state.phase not in GUARDED:
            return "stable"
        desired = find_state(self.recommender, self.store)
        has_baseline = desired is not None and desired.baseline is not None
        return "baseline" if state.phase == "promoted" and has_baseline else "previous"
