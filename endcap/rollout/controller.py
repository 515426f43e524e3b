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
from datetime import UTC, datetime, timedelta
from typing import Literal, Protocol

from endcap.deploy.pins import read_pin, refuse_pinned
from endcap.deploy.state import find_state
from endcap.errors import EndcapError, NotFoundError, TransientError, UserError
from endcap.experiments.decision import decide
from endcap.experiments.decision_log import DecisionLog
from endcap.experiments.entry_progress import EntryProgress
from endcap.experiments.evidence import GuardrailEvidence
from endcap.experiments.exclusion import refuse_during_rollout
from endcap.experiments.log_entry import RolloutLogEntry
from endcap.experiments.refresh_check import may_refresh
from endcap.experiments.rollout_state import GUARDED, RolloutCommand, RolloutState
from endcap.registry import Registry, Version, open_registry
from endcap.registry.decision_hold import hold_name
from endcap.registry.package import read_recommender
from endcap.retries import disable_retries
from endcap.rollout.carrying_out import carry_out, find_salt, read_share, return_traffic, send_message
from endcap.rollout.messages import Notify
from endcap.rollout.observation import RolloutObserver
from endcap.spec.rollout import RolloutSpec
from endcap.store import Store
from endcap.store.base import Hold

_RECIPE = {"classes", "preprocessing", "model", "search", "training", "split", "exclude", "refit", "seed"}
"""The sections of a spec that make the model."""
SUPERSEDE_FOR = timedelta(days=3)
"""So long newer versions take each other's place. Then the running one is decided, and a newer one waits for that."""

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
        Where the intake writes: a folder, or ``s3://bucket/prefix``; None: beside the store.
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
        intake: str | None = None,
    ) -> None:
        self.log = DecisionLog(store, recommender)
        self._progress = EntryProgress(store, recommender)
        self._store, self._recommender, self._registry_uri = store, recommender, registry_uri
        self._watcher, self._notify, self._read_clock, self._intake = watcher, notify, read_clock, intake
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
        if is_broken and time.monotonic() >= self._quiet_until:
            self._quiet_until = time.monotonic() + _VAIN_PAUSE
            return self.look()
        state = last.after
        due = state.looked is None or self._read_clock() - state.looked >= self._read_policy(state).look_every
        return self.look() if due and not state.is_over else self.finish()

    def find_running(self) -> tuple[RolloutState, RolloutSpec] | None:
        """Return the rollout whose version shoppers meet, and its policy; None if there is none."""
        last = self.log.find_last()
        if last is None or last.after.is_over or last.after.started is None:
            return None
        return last.after, self._read_policy(last.after)

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
        if last is None or last.after.is_over:
            return last
        state = last.after
        if state.phase not in GUARDED and self._has_vanished(state.version):
            why = f"version {state.version} is no longer in the registry, so it could never be promoted"
            return self.command(RolloutCommand("abort", "endcap", why))
        policy, now = self._read_policy(state), self._read_clock()
        guardrails, problems = self._watcher.measure(state, policy, now) if self._watcher else ((), {})
        served = read_share(state, self._store)
        observer = self._find_observer(state, policy)
        evidence = replace(
            observer.observe(state, now, guardrails, problems),
            share=served.share,
            share_since=served.since,
            popularity_only=served.popularity_only,
            pinned=read_pin(self._recommender, self._store),
        )

        if decide(state, evidence, policy, now).action == "roll_back" and self.log.find_last() == last:
            # Nothing was decided, and no command came, since this look began.
            self._return_traffic(state)

        def append() -> RolloutLogEntry:
            if read_pin(self._recommender, self._store) != evidence.pinned:
                # It was pinned, or unpinned, since this look began. The next one knows.
                return last
            return self.log.look(evidence, policy, now)

        return self._advance(append)

    def finish(self) -> RolloutLogEntry | None:
        """Do what is missing of the log's last entry, as after a kill; None if nothing is.

        Raises
        ------
        UserError, TransientError
            As `look` does.
        """
        last = self.log.find_last()
        if last is None or self._progress.is_finished(last):
            return None
        with self._store.hold(hold_name(self._recommender)) as hold:
            last = self.log.find_last()
            assert last is not None
            self._carry_out(last, hold)
        send_message(last, self._store, self._notify)
        return last

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
        registry = open_registry(self._registry_uri, self._store)

        def begin() -> RolloutLogEntry:
            refuse_pinned(self._recommender, self._store)
            candidate, champion = registry.get_version(self._recommender, version), self._require_champion(version)
            self._check_candidate(candidate, champion)
            policy, now = self._require_policy(candidate.package, version), self._read_clock()
            return self.log.begin(candidate.version, candidate.package, champion.version, champion.package, policy, now)

        return self._advance(begin)

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
            refuse_pinned(self._recommender, self._store)
            last = self.log.find_last()
            if last is not None and not last.after.is_over:
                self._return_traffic(last.after)

        def append() -> RolloutLogEntry:
            if command.action not in ("approve", "pause"):
                refuse_pinned(self._recommender, self._store)
            last = self.log.find_last()
            policy = self._read_policy(last.after) if last is not None else RolloutSpec()
            return self.log.command(command, policy, self._read_clock())

        return self._advance(append)

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
        registry = open_registry(self._registry_uri, self._store)

        def append() -> RolloutLogEntry:
            refuse_during_rollout(self._recommender, self._store, "endcap registry rollback")
            refuse_pinned(self._recommender, self._store)
            champion = self._require_champion(version)
            if version:
                target = registry.get_version(self._recommender, version)
                self._check_candidate(target, champion)
            else:
                target = self._require_champion_before(registry, champion)
            leaving, back = ((each.version, each.package) for each in (champion, target))
            return self.log.roll_back(leaving, back, by, why, self._read_clock())

        return self._advance(append)

    def offer(self, version: str) -> RolloutLogEntry | None:
        """Offer a new version, as the deploy step does: begin its rollout, or do what `while_running` says.

        Returns
        -------
        RolloutLogEntry or None
            The log's last entry; None if the version waits: for the end of the running rollout, or for a pin's.
        """
        if read_pin(self._recommender, self._store):
            return None
        last = self.log.find_last()
        if last is None or last.after.is_over or last.after.phase in GUARDED:
            return None if self.was_rolled_out(version) else self.start(version)
        state = last.after
        if state.version == version or version in state.refreshed:
            self.finish()
            return last
        if not self._is_next(version, state):
            return None
        candidate = open_registry(self._registry_uri, self._store).get_version(self._recommender, version)
        why = f"version {version} is newer"
        if self._read_policy(state).while_running == "refresh":
            return self.command(RolloutCommand("refresh", "deploy", why, candidate.version, candidate.package))
        self.command(RolloutCommand("supersede", "deploy", why))
        return self.start(version)

    def _is_next(self, version: str, state: RolloutState) -> bool:
        """Tell whether a version may take the running one's place now, or waits."""
        candidate = open_registry(self._registry_uri, self._store).get_version(self._recommender, version)
        if candidate.state != "approved" or int(version) < int(state.version):
            return False
        match self._read_policy(state).while_running:
            case "queue":
                return False
            case "supersede":
                # Else a shop whose rollouts take longer than the time between two versions would promote none.
                return self._read_clock() - self._find_first_superseded() < SUPERSEDE_FOR
            case "refresh":
                # The running version's evidence says nothing of another recipe. That one waits: it would otherwise
                # throw the evidence away for a version of which nothing is known.
                recipes = {self._read_recipe(package) for package in (state.package, candidate.package)}
                return len(recipes) == 1 and may_refresh(state, self._read_clock())

    def _find_first_superseded(self) -> datetime:
        """Return when the first of the rollouts began that superseded each other up to the running one."""
        begun = self._read_clock()
        for entry in reversed(list(self.log.read_entries())):
            if entry.kind == "begin":
                begun = entry.time
                if entry.before is None or entry.before.phase != "superseded":
                    break
        return begun

    def start_waiting(self) -> RolloutLogEntry | None:
        """Begin the newest version that waits, if no rollout runs, or refresh the running one by it.

        Returns
        -------
        RolloutLogEntry or None
            The log's last entry; None if nothing waits, or may begin.
        """
        last = self.log.find_last()
        if last is None:
            return None
        is_free = last.after.is_over or last.after.phase in GUARDED
        if not is_free and self._read_policy(last.after).while_running != "refresh":
            return None
        versions = open_registry(self._registry_uri, self._store).list_versions(self._recommender)
        newest = max(versions, key=lambda entry: int(entry.version), default=None)
        if newest is None or newest.state != "approved" or int(newest.version) <= int(last.after.version):
            return None
        if self.was_rolled_out(newest.version) or read_recommender(self._store.fetch(newest.package)).rollout is None:
            return None
        return self.offer(newest.version)

    def was_rolled_out(self, version: str) -> bool:
        """Tell whether a rollout of the version ever began. It does not begin again by itself."""
        return any(entry.kind == "begin" and entry.after.version == version for entry in self.log.read_entries())

    def _advance(self, append: Callable[[], RolloutLogEntry]) -> RolloutLogEntry:
        """Append an entry and carry it out, while nobody else decides on the recommender; then send its message."""
        while True:
            self.finish()
            with self._store.hold(hold_name(self._recommender)) as hold:
                last = self.log.find_last()
                if last is not None and not self._progress.is_carried_out(last):
                    continue
                entry = append()
                self._carry_out(entry, hold)
            if not self._progress.is_finished(entry):
                send_message(entry, self._store, self._notify)
            return entry

    def _return_traffic(self, state: RolloutState) -> None:
        """Take the version from all shoppers before anything else, as a step that follows will do once more.

        A step waits while others decide on the recommender, and they may wait for a registry that is away. A process
        that is killed here leaves the version without shoppers, and the next look decides again.
        """
        # The step that follows meets the same error, and says so.
        with contextlib.suppress(EndcapError):
            return_traffic(state, self._store)

    def _carry_out(self, entry: RolloutLogEntry, hold: Hold) -> None:
        if self._progress.is_carried_out(entry):
            return
        policy = RolloutSpec() if entry.after.is_over else self._read_policy(entry.after)
        carry_out(entry, policy, self._store, self._registry_uri, hold)

    def _find_observer(self, state: RolloutState, policy: RolloutSpec) -> RolloutObserver:
        against = self._choose_comparator(state)
        key = (state.created.isoformat(), state.arm, against)
        if key not in self._observers:
            observer = RolloutObserver(state, against, policy, self._store, find_salt(state), self._intake)
            self._observers = {key: observer}
        return self._observers[key]

    def _choose_comparator(self, state: RolloutState) -> Literal["stable", "previous", "baseline"]:
        """Choose what a version is compared with: once it has no previous version beside it, the baseline."""
        if state.phase not in GUARDED:
            return "stable"
        desired = find_state(self._recommender, self._store)
        has_baseline = desired is not None and desired.baseline is not None
        return "baseline" if state.phase == "promoted" and has_baseline else "previous"

    def _has_vanished(self, version: str) -> bool:
        """Tell whether the registry lacks a version. One that does not answer at once says nothing."""
        try:
            with disable_retries():
                open_registry(self._registry_uri, self._store).get_version(self._recommender, version)
        except NotFoundError:
            return True
        except TransientError:
            return False
        return False

    def _read_policy(self, state: RolloutState) -> RolloutSpec:
        if state.package not in self._policies:
            try:
                self._policies[state.package] = self._require_policy(state.package, state.version)
            except NotFoundError:
                # The package is gone from the store. A rollout can be aborted nevertheless: the log has its policy.
                last = self.log.find_last()
                if last is None or last.after.package != state.package:
                    raise
                return self.log.read_policy(last.policy)
        return self._policies[state.package]

    def _read_recipe(self, package: str) -> str:
        """Return what a version's model was made by, apart from the data, as text that is the same for the same."""
        return read_recommender(self._store.fetch(package)).model_dump_json(include=_RECIPE)

    def _require_policy(self, package: str, version: str) -> RolloutSpec:
        policy = read_recommender(self._store.fetch(package)).rollout
        if policy is None:
            raise UserError(
                f"version {version} of {self._recommender} was trained by a spec without a section rollout. Add "
                "`rollout: {}` and run again, or give it a share by hand: endcap deploy",
                code="rollout.no-policy",
                recommender=self._recommender,
                version=version,
            )
        return policy

    def _require_champion(self, version: str) -> Version:
        champion = open_registry(self._registry_uri, self._store).find_champion(self._recommender)
        if champion is None:
            raise UserError(
                f"{self._recommender} has no champion to compare version {version} with. To make it the champion: "
                f"endcap registry promote {self._recommender} {version}",
                code="rollout.no-champion",
                recommender=self._recommender,
                version=version,
            )
        return champion

    def _require_champion_before(self, registry: Registry, champion: Version) -> Version:
        before = registry.find_champion_before(self._recommender)
        if before is None:
            raise UserError(
                f"{self._recommender}: it is not known which version was the champion before version "
                f"{champion.version}. Name the version that shall come back: endcap registry rollback "
                f"{self._recommender} VERSION. `endcap registry list {self._recommender}` shows them",
                code="rollout.no-champion-before",
                recommender=self._recommender,
                champion=champion.version,
            )
        return before

    def _check_candidate(self, candidate: Version, champion: Version) -> None:
        cause = ""
        if candidate.version == champion.version:
            cause = "it is the champion already"
        elif candidate.state != "approved":
            cause = f"it is {candidate.state}"
        if cause:
            raise UserError(
                f"version {candidate.version} of {self._recommender} cannot be served: {cause}; allowed: an "
                f"approved version that is not the champion. `endcap registry list {self._recommender}` shows them",
                code="rollout.version-unfit",
                recommender=self._recommender,
                version=candidate.version,
                found=candidate.state,
            )
