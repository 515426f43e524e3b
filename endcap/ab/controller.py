"""The loop of an A/B test: it looks, decides, and carries out, again and again; killed anywhere, it goes on.

The log holds where a test stands, and the desired state what is served, as for rollouts (`endcap.rollout.controller`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Protocol

from endcap.ab.carrying_out import Notify, carry_out, read_served, send_message
from endcap.ab.observation import AbObserver, Surroundings
from endcap.deploy.pins import read_pin, refuse_pinned
from endcap.deploy.state import read_state
from endcap.errors import TransientError, UserError
from endcap.experiments.ab_evidence import Registered
from endcap.experiments.ab_log import AB_FOLDER, AbLog, AbLogEntry
from endcap.experiments.ab_state import AbCommand, AbPolicy, AbState
from endcap.experiments.entry_progress import EntryProgress
from endcap.experiments.evidence import GuardrailEvidence
from endcap.experiments.exclusion import refuse_during_rollout
from endcap.experiments.layout import Layout
from endcap.experiments.splits import CHALLENGERS
from endcap.registry import Version
from endcap.registry.package import read_recommender
from endcap.retries import disable_retries
from endcap.rollout.candidates import Candidates
from endcap.rollout.feed import IntakeOutput
from endcap.rollout.request_watcher import GuardedArms
from endcap.rollout.step_runner import StepRunner
from endcap.spec.ab import AbSpec
from endcap.spec.rollout import RolloutSpec
from endcap.store import Store
from endcap.store.base import Hold

_VAIN_PAUSE = 60.0
"""Seconds before a broken guardrail asks for a look again, if the last one did not drop the version."""


class ArmsWatcher(Protocol):
    """Measures the operational guardrails of several arms."""

    def measure_arms(
        self, guarded: GuardedArms, policy: RolloutSpec
    ) -> tuple[dict[str, tuple[GuardrailEvidence, ...]], Mapping[str, str]]:
        """Return the evidence of each guardrail by arm, and what could not be read, with the reason."""


class AbController:
    """Drives the A/B tests of one recommender.

    Parameters
    ----------
    store
        Holds log, desired state, packages, and beside it the intake's files.
    recommender
        Its name.
    registry_uri
        MLflow's address; None: the store's own.
    watcher
        Measures the guardrails; None: nobody does.
    notify
        Who gets messages.
    read_clock
        Returns the present moment, UTC.
    intake
        Where the intake writes, and how soon; None: as beside `endcap serve`.

    Attributes
    ----------
    log
        Every look, decision and command.
    """

    def __init__(
        self,
        store: Store,
        recommender: str,
        registry_uri: str | None = None,
        *,
        watcher: ArmsWatcher | None = None,
        notify: Sequence[Notify] = (),
        read_clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        intake: IntakeOutput | None = None,
    ) -> None:
        self.store, self.recommender = store, recommender
        self.log = AbLog(store, recommender)
        self._candidates = Candidates(store, recommender, registry_uri)
        self._registry_uri, self._watcher, self._notify = registry_uri, watcher, notify
        self._read_clock, self._intake = read_clock, intake
        progress = EntryProgress(store, recommender, AB_FOLDER)
        self._steps = StepRunner(store, recommender, progress, self.log.find_last, self._carry_out, self._send)
        self._observer: tuple[datetime, AbObserver] | None = None
        self._layouts: tuple[datetime, list[Layout]] | None = None
        self._quiet_until = 0.0

    def look_if_due(self, *, is_broken: bool = False) -> AbLogEntry | None:
        """Look if the last look is older than `look_every` or an epoch is over, or at once for a broken guardrail.

        Parameters
        ----------
        is_broken
            Whether a guardrail is broken. If the look drops no version, the guardrail asks for no other for a minute.

        Returns
        -------
        AbLogEntry or None
            As `look` does; None if nothing was to be done.
        """
        last = self.log.find_last()
        if last is None:
            return None
        if last.after.is_over:
            return self.finish()
        if is_broken and time.monotonic() >= self._quiet_until:
            self._quiet_until = time.monotonic() + _VAIN_PAUSE
            return self.look()
        state, now = last.after, self._read_clock()
        due = state.looked is None or now - state.looked >= self.log.read_policy(last.policy).ab.look_every
        return self.look() if due else self.finish()

    def find_running(self) -> tuple[AbState, AbPolicy] | None:
        """Return the test that runs and its policy; None if none does."""
        running = self.log.find_running()
        return None if running is None else (running.after, self.log.read_policy(running.policy))

    def look(self) -> AbLogEntry | None:
        """Look at the test once, decide, and carry the decision out.

        Returns
        -------
        AbLogEntry or None
            The log's last entry; None if there was never a test.

        Raises
        ------
        UserError
            The desired state was changed so that the decision does not fit any more.
        TransientError
            The registry or the store does not answer. The next look goes on where this one ended.
        """
        self.finish()
        last = self.log.find_last()
        if last is None or last.after.is_over:
            return last
        state, policy, now = last.after, self.log.read_policy(last.policy), self._read_clock()
        around = self._look_around(state, policy)
        evidence = self._find_observer(state, policy).observe(state, self._list_layouts(state), now, around)

        def append() -> AbLogEntry:
            if self.log.find_last() != last or read_pin(self.recommender, self.store) != evidence.pinned:
                # Something was decided, pinned or unpinned since this look began. The next one knows.
                return self.log.find_last() or last
            return self.log.look(evidence, policy, now)

        return self._steps.advance(append)

    def finish(self) -> AbLogEntry | None:
        """Do what is missing of the log's last entry, as after a kill; None if nothing is."""
        return self._steps.finish()

    def start(self, versions: Sequence[str], by: str = "", why: str = "") -> AbLogEntry:
        """Begin a test of registered versions beside the champion, by the sections in the newest one's package.

        Parameters
        ----------
        versions
            One to seven.
        by, why
            Who asks, and the reason.

        Raises
        ------
        UserError
            There are too few, too many or the same versions twice, or more than ``ab.floor`` leaves room for
            (``ab.challengers``); a version is not approved or is the champion (``rollout.version-unfit``); there is no
            champion, another version serves everyone (``ab.champion-not-served``) or a canary serves beside it
            (``ab.canary-serves``); a rollout or another test runs; what is served is pinned.
        NotFoundError
            There is no such version, or nothing is deployed.
        """
        left = self.finish()
        if left is not None and left.kind == "begin" and _list_versions(left.after) == list(versions):
            # The same call was killed before, and has ended now.
            return left
        self._check_number(versions)
        self._candidates.open_registry()

        def begin() -> AbLogEntry:
            refuse_during_rollout(self.recommender, self.store, "endcap ab start")
            refuse_pinned(self.recommender, self.store)
            champion = self._candidates.require_champion(versions[0])
            self._check_served(champion)
            candidates = [self._candidates.get_version(version) for version in versions]
            for candidate in candidates:
                self._candidates.refuse_unfit(candidate, champion)
            policy = self._read_policy(candidates)
            challengers = [(candidate.version, candidate.package) for candidate in candidates]
            stable = (champion.version, champion.package)
            return self.log.begin(stable, challengers, policy, self._read_clock(), by=by, why=why)

        return self._steps.advance(begin)

    def command(self, command: AbCommand) -> AbLogEntry:
        """Carry out a person's command: drop, stop or promote.

        Raises
        ------
        UserError
            There was never a test, the command does not fit its state, or what is served is pinned.
        NotFoundError, IntegrityError
            The package of the version that is to be promoted cannot be read.
        """
        if (left := self.finish()) is not None and left.command == command:
            return left

        def append() -> AbLogEntry:
            refuse_pinned(self.recommender, self.store)
            last = self.log.find_last()
            challenger = None if last is None else last.after.find_challenger(command.version)
            if command.action == "promote" and challenger is not None:
                # A package that is gone must not be found missing after the log has promoted its version.
                read_recommender(self.store.fetch(challenger.package))
            return self.log.command(command, self._read_clock())

        return self._steps.advance(append)

    def _look_around(self, state: AbState, policy: AbPolicy) -> Surroundings:
        guardrails: dict[str, tuple[GuardrailEvidence, ...]] = {}
        problems: Mapping[str, str] = {}
        if self._watcher is not None:
            guardrails, problems = self._watcher.measure_arms(guard_test(state), policy.rollout)
        served = read_served(state, self.store)
        return Surroundings(
            guardrails,
            self._ask_registry(state),
            problems,
            served.layout,
            served.popularity_only,
            read_pin(self.recommender, self.store),
        )

    def _ask_registry(self, state: AbState) -> dict[str, Registered]:
        """Ask what the registry says of each challenger. One that does not answer at once says nothing."""
        try:
            with disable_retries():
                known = {each.version: each.state for each in self._candidates.list_versions()}
        except TransientError:
            return {}
        return {
            each.version: "absent"
            if each.version not in known
            else ("rejected" if known[each.version] == "rejected" else "approved")
            for each in state.taking_part
        }

    def _find_observer(self, state: AbState, policy: AbPolicy) -> AbObserver:
        if self._observer is None or self._observer[0] != state.created:
            self._observer = state.created, AbObserver(state, policy, self.store, self._intake)
        return self._observer[1]

    def _list_layouts(self, state: AbState) -> list[Layout]:
        """List all layouts that the test has had. The log is read only if another loop changed them meanwhile."""
        created, layouts = self._layouts or (None, [])
        if created != state.created or len(layouts) != state.layouts or layouts[-1] != state.layout:
            layouts = []
            for entry in self.log.read_test():
                if entry.after.layouts > len(layouts):
                    layouts.append(entry.after.layout)
            self._layouts = state.created, layouts
        return layouts

    def _carry_out(self, entry: AbLogEntry, hold: Hold) -> None:
        carry_out(entry, self.store, self._registry_uri, hold)

    def _send(self, entry: AbLogEntry) -> None:
        send_message(entry, self.store, self._notify)

    def _read_policy(self, candidates: Sequence[Version]) -> AbPolicy:
        newest = max(candidates, key=lambda candidate: int(candidate.version))
        spec = read_recommender(self.store.fetch(newest.package))
        policy = AbPolicy(spec.ab or AbSpec(), spec.rollout or RolloutSpec())
        if len(candidates) + 1 > policy.ab.most_arms:
            raise self._make_number_error(
                [candidate.version for candidate in candidates],
                f"at most {policy.ab.most_arms - 1:g} beside the champion, since each version has at least ab.floor",
            )
        return policy

    def _check_number(self, versions: Sequence[str]) -> None:
        if not 1 <= len(versions) <= len(CHALLENGERS) or len(set(versions)) < len(versions):
            raise self._make_number_error(versions, f"one to {len(CHALLENGERS)} versions, each once")

    def _check_served(self, champion: Version) -> None:
        state = read_state(self.recommender, self.store)
        if state.canary is not None:
            raise UserError(
                f"version {state.canary.version} of {self.recommender} is the canary, so no A/B test begins beside it. "
                f"Take its share away first: endcap deploy {self.recommender} --version {champion.version}",
                code="ab.canary-serves",
                recommender=self.recommender,
                canary=state.canary.version,
            )
        stable = state.stable.version
        if stable != champion.version:
            raise UserError(
                f"version {stable} of {self.recommender} serves everyone, and the champion is version "
                f"{champion.version}. Deploy the champion first: endcap deploy {self.recommender} --version "
                f"{champion.version}",
                code="ab.champion-not-served",
                recommender=self.recommender,
                stable=stable,
                champion=champion.version,
            )

    def _make_number_error(self, versions: Sequence[str], allowed: str) -> UserError:
        return UserError(
            f"A/B test of {self.recommender}: found the versions {', '.join(versions) or 'none'}; allowed: {allowed}",
            code="ab.challengers",
            recommender=self.recommender,
            found=list(versions),
            allowed=allowed,
        )


def guard_test(state: AbState) -> GuardedArms:
    """Return the arms of a test that are watched."""
    arms: dict[str, str | None] = {challenger.arm: "stable" for challenger in state.taking_part}
    return GuardedArms(f"ab/{state.recommender}/guardrails", state.created.isoformat(), arms)


def _list_versions(state: AbState) -> list[str]:
    return [challenger.version for challenger in state.challengers]
