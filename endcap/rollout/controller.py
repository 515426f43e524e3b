"""The loop of a rollout: it looks, decides, and carries out, again and again; killed anywhere, it goes on.

The decision log holds where a rollout stands, and the desired state `deployments/<recommender>` what is served. The
controller is the only writer from one to the other. Two controllers at once do no harm: the log takes one of two looks,
and what is carried out is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Protocol

from endcap.errors import UserError
from endcap.experiments.decision_log import DecisionLog, RolloutLogEntry
from endcap.experiments.evidence import GuardrailEvidence
from endcap.experiments.rollout_state import GUARDED, RolloutCommand, RolloutState
from endcap.registry import Version, open_registry
from endcap.registry.package import read_recommender
from endcap.rollout.carrying_out import carry_out, find_salt, is_carried_out, read_share
from endcap.rollout.messages import Notify
from endcap.rollout.observation import RolloutObserver
from endcap.spec.rollout import RolloutSpec
from endcap.store import Store


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
        self._store, self._recommender, self._registry_uri = store, recommender, registry_uri
        self._watcher, self._notify, self._read_clock, self._intake = watcher, notify, read_clock, intake
        self._observers: dict[tuple[str, ...], RolloutObserver] = {}
        self._policies: dict[str, RolloutSpec] = {}

    def look_if_due(self) -> RolloutLogEntry | None:
        """Look if the last look is older than the policy's `look_every`; None if nothing was to be done."""
        last = self.log.find_last()
        if last is None:
            return None
        state = last.after
        due = state.looked is None or self._read_clock() - state.looked >= self._read_policy(state).look_every
        return self.look() if due and not state.is_over else self._finish(last)

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
        last = self.log.find_last()
        if last is None:
            return None
        self._finish(last)
        state = last.after
        if state.is_over:
            return last
        policy, now = self._read_policy(state), self._read_clock()
        guardrails, problems = self._watcher.measure(state, policy, now) if self._watcher else ((), {})
        served = read_share(state, self._store)
        observer = self._find_observer(state, policy)
        evidence = replace(
            observer.observe(state, now, guardrails, problems),
            share=served.share,
            share_since=served.since,
            popularity_only=served.popularity_only,
        )
        entry = self.log.look(evidence, policy, now)
        self._finish(entry)
        return entry

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
        candidate, champion = registry.get_version(self._recommender, version), self._require_champion(version)
        self._check_candidate(candidate, champion)
        policy = self._require_policy(candidate.package, version)
        entry = self.log.begin(
            candidate.version, candidate.package, champion.version, champion.package, policy, self._read_clock()
        )
        self._finish(entry)
        return entry

    def command(self, command: RolloutCommand) -> RolloutLogEntry:
        """Carry out a person's command: pause, resume, approve, promote or abort.

        Raises
        ------
        UserError
            There was never a rollout, or the command does not fit its state.
        """
        last = self.log.find_last()
        policy = self._read_policy(last.after) if last is not None else RolloutSpec()
        entry = self.log.command(command, policy, self._read_clock())
        self._finish(entry)
        return entry

    def offer(self, version: str) -> RolloutLogEntry | None:
        """Offer a new version, as the deploy step does: begin its rollout, or do what `while_running` says.

        Returns
        -------
        RolloutLogEntry or None
            The log's last entry; None if the version waits for the end of the running rollout.
        """
        last = self.log.find_last()
        if last is None or last.after.is_over or last.after.phase in GUARDED:
            return None if self.was_rolled_out(version) else self.start(version)
        state = last.after
        if state.version == version or version in state.refreshed:
            self._finish(last)
            return last
        policy = self._read_policy(state)
        if policy.while_running == "queue":
            return None
        candidate = open_registry(self._registry_uri, self._store).get_version(self._recommender, version)
        why = f"version {version} is newer"
        if policy.while_running == "refresh":
            package = {"version": candidate.version, "package": candidate.package}
            return self.command(RolloutCommand("refresh", "deploy", why, **package))
        self.command(RolloutCommand("supersede", "deploy", why))
        return self.start(version)

    def start_waiting(self) -> RolloutLogEntry | None:
        """Begin the newest version that waits, if no rollout runs; None if none waits."""
        last = self.log.find_last()
        if last is None or not (last.after.is_over or last.after.phase in GUARDED):
            return None
        versions = open_registry(self._registry_uri, self._store).list_versions(self._recommender)
        newest = max(versions, key=lambda entry: int(entry.version), default=None)
        if newest is None or newest.state != "approved" or int(newest.version) <= int(last.after.version):
            return None
        if self.was_rolled_out(newest.version) or read_recommender(self._store.fetch(newest.package)).rollout is None:
            return None
        return self.start(newest.version)

    def was_rolled_out(self, version: str) -> bool:
        """Tell whether a rollout of the version ever began. It does not begin again by itself."""
        return any(entry.kind == "begin" and entry.after.version == version for entry in self.log.read_entries())

    def _finish(self, entry: RolloutLogEntry) -> RolloutLogEntry | None:
        """Carry out an entry that was not carried out; None if it was."""
        if is_carried_out(entry, self._store):
            return None
        carry_out(entry, self._read_policy(entry.after), self._store, self._registry_uri, self._notify)
        return entry

    def _find_observer(self, state: RolloutState, policy: RolloutSpec) -> RolloutObserver:
        key = (state.created.isoformat(), state.arm)
        if key not in self._observers:
            self._observers = {key: RolloutObserver(state, policy, self._store, find_salt(state), self._intake)}
        return self._observers[key]

    def _read_policy(self, state: RolloutState) -> RolloutSpec:
        if state.package not in self._policies:
            self._policies[state.package] = self._require_policy(state.package, state.version)
        return self._policies[state.package]

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

    def _check_candidate(self, candidate: Version, champion: Version) -> None:
        cause = ""
        if candidate.version == champion.version:
            cause = "it is the champion already"
        elif candidate.state != "approved":
            cause = f"it is {candidate.state}"
        if cause:
            raise UserError(
                f"version {candidate.version} of {self._recommender} cannot be rolled out: {cause}; allowed: an "
                f"approved version that is not the champion. `endcap registry list {self._recommender}` shows them",
                code="rollout.version-unfit",
                recommender=self._recommender,
                version=candidate.version,
                found=candidate.state,
            )
