"""The guardrails of arms that are judged: predictors and Envoy are asked every few seconds what they counted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from endcap.errors import EndcapError
from endcap.experiments.evidence import GuardrailEvidence
from endcap.experiments.guardrails import GuardrailMonitor
from endcap.experiments.operations import ArmSources, OperationsReader
from endcap.experiments.rollout_state import GUARDED, RolloutState
from endcap.spec.rollout import RolloutSpec
from endcap.store import Store

Json = dict[str, Any]


@dataclass(frozen=True)
class GuardedArms:
    """Arms that are watched together.

    Attributes
    ----------
    document
        Where what is known of them is kept in the store.
    name
        Whose they are. Under another name what is known begins anew.
    arms
        The arm whose counts of the same seconds are the reference, by each watched arm; None: the arm's own history.
    """

    document: str
    name: str
    arms: Mapping[str, str | None]


class GuardrailWatcher:
    """Measures the guardrails of one or more arms: a `RequestWatcher` for any place that serves.

    Parameters
    ----------
    store
        Keeps what is known, so that a process that is started again does not begin anew.
    list_sources
        Returns the arms and their sources of the moment. If it raises an EndcapError, nothing is read at that moment.
    reader
        Reads the sources, once for all arms.
    """

    def __init__(
        self, store: Store, list_sources: Callable[[], Mapping[str, ArmSources]], reader: OperationsReader
    ) -> None:
        self._store, self._list_sources, self._reader = store, list_sources, reader
        self._name = ""
        self._monitors: dict[str, GuardrailMonitor] = {}
        self._problems: Mapping[str, str] = {}

    def poll(self, state: RolloutState, policy: RolloutSpec) -> bool:
        """Read what was counted since the last call. Tell whether a guardrail of a rollout is broken."""
        return bool(self.poll_arms(guard_rollout(state), policy))

    def measure(
        self, state: RolloutState, policy: RolloutSpec, now: datetime
    ) -> tuple[Iterable[GuardrailEvidence], Mapping[str, str]]:
        """Return the evidence of each guardrail, and what could not be read; see `RequestWatcher`."""
        evidence, problems = self.measure_arms(guard_rollout(state), policy)
        return evidence[state.arm], problems

    def poll_arms(self, guarded: GuardedArms, policy: RolloutSpec) -> list[str]:
        """Read what was counted since the last call.

        Parameters
        ----------
        guarded
            The arms.
        policy
            Its guardrails.

        Returns
        -------
        list of str
            The arms of which a guardrail is broken.
        """
        if not policy.guardrails:
            # Nobody is asked for what no guardrail needs: a page that cannot be read would hold the rollout.
            self._problems = {}
            return []
        monitors = self._find_monitors(guarded, policy)
        try:
            reading = self._reader.read(self._list_sources(), datetime.now(UTC))
        except EndcapError as error:
            self._problems = {"arms": str(error)}
        else:
            self._problems = reading.problems
            for window in reading.windows:
                for monitor in monitors.values():
                    monitor.add(window)
        budgets = policy.guardrail_budgets
        return [
            arm
            for arm, monitor in monitors.items()
            if any(entry.e_value >= 1 / budgets[entry.guardrail] for entry in monitor.judge())
        ]

    def measure_arms(
        self, guarded: GuardedArms, policy: RolloutSpec
    ) -> tuple[dict[str, tuple[GuardrailEvidence, ...]], Mapping[str, str]]:
        """Return the evidence of each guardrail by arm, and what could not be read; and keep what is known.

        Parameters are those of `poll_arms`.
        """
        monitors = self._find_monitors(guarded, policy)
        document = {"of": guarded.name, "monitors": {arm: monitor.to_json() for arm, monitor in monitors.items()}}
        self._store.update_document(guarded.document, lambda before: document)
        return {arm: monitor.judge() for arm, monitor in monitors.items()}, self._problems

    def _find_monitors(self, guarded: GuardedArms, policy: RolloutSpec) -> dict[str, GuardrailMonitor]:
        if self._name != guarded.name:
            self._name, self._monitors = guarded.name, {}
        missing = guarded.arms.keys() - self._monitors.keys()
        kept = _read_monitors(self._store.read_document(guarded.document) or {}, guarded) if missing else {}
        for arm in missing:
            monitor = self._monitors[arm] = GuardrailMonitor(policy.guardrails, arm, guarded.arms[arm])
            if arm in kept:
                monitor.restore(kept[arm])
        return {arm: self._monitors[arm] for arm in guarded.arms}


def guard_rollout(state: RolloutState) -> GuardedArms:
    """Return the arm of a rollout that is watched."""
    against = {"guarding": "previous", "promoted": None}.get(state.phase, "stable")
    phase = state.phase if state.phase in GUARDED else "canary"
    # Another version, or another arm after the promotion, begins anew.
    name = f"{state.version} {state.created.isoformat()} {phase}"
    return GuardedArms(f"rollouts/{state.recommender}/guardrails", name, {state.arm: against})


def _read_monitors(document: Json, guarded: GuardedArms) -> Json:
    """Return what is kept of each arm. An earlier release kept one arm's alone, under other keys."""
    if document.get("rollout", document.get("of")) != guarded.name:
        return {}
    kept: Json = document.get("monitors") or dict.fromkeys(guarded.arms, document.get("monitor"))
    return kept
