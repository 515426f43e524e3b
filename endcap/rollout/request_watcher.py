"""The guardrails of a running rollout: predictors and Envoy are asked every few seconds what they counted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
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


class GuardrailWatcher:
    """Measures the guardrails of the arm that is judged: a `RequestWatcher` for any place that serves.

    Parameters
    ----------
    store
        Keeps what is known, so that a process that is started again does not begin anew.
    list_sources
        Returns the arms and their sources of the moment. If it raises an EndcapError, nothing is read at that moment.
    reader
        Reads the sources.
    """

    def __init__(
        self, store: Store, list_sources: Callable[[], Mapping[str, ArmSources]], reader: OperationsReader
    ) -> None:
        self._store, self._list_sources, self._reader = store, list_sources, reader
        self._monitors: dict[str, GuardrailMonitor] = {}
        self._problems: Mapping[str, str] = {}

    def poll(self, state: RolloutState, policy: RolloutSpec) -> bool:
        """Read what was counted since the last call. Tell whether a guardrail is broken."""
        if not policy.guardrails:
            # Nobody is asked for what no guardrail needs: a page that cannot be read would hold the rollout.
            self._problems = {}
            return False
        monitor = self._find_monitor(state, policy)
        try:
            reading = self._reader.read(self._list_sources(), datetime.now(UTC))
        except EndcapError as error:
            self._problems = {"arms": str(error)}
        else:
            self._problems = reading.problems
            for window in reading.windows:
                monitor.add(window)
        budgets = policy.guardrail_budgets
        return any(entry.e_value >= 1 / budgets[entry.guardrail] for entry in monitor.judge())

    def measure(
        self, state: RolloutState, policy: RolloutSpec, now: datetime
    ) -> tuple[Iterable[GuardrailEvidence], Mapping[str, str]]:
        """Return the evidence of each guardrail, and what could not be read; see `RequestWatcher`."""
        monitor = self._find_monitor(state, policy)
        document = {"rollout": _name_rollout(state), "monitor": monitor.to_json()}
        self._store.update_document(_name_document(state), lambda before: document)
        return monitor.judge(), self._problems

    def _find_monitor(self, state: RolloutState, policy: RolloutSpec) -> GuardrailMonitor:
        name = _name_rollout(state)
        if name not in self._monitors:
            against = {"guarding": "previous", "promoted": None}.get(state.phase, "stable")
            monitor = GuardrailMonitor(policy.guardrails, state.arm, against)
            document: Json = self._store.read_document(_name_document(state)) or {}
            if document.get("rollout") == name:
                monitor.restore(document["monitor"])
            self._monitors = {name: monitor}
        return self._monitors[name]


def _name_rollout(state: RolloutState) -> str:
    """Name what a monitor is of: another version, or another arm after the promotion, begins anew."""
    phase = state.phase if state.phase in GUARDED else "canary"
    return f"{state.version} {state.created.isoformat()} {phase}"


def _name_document(state: RolloutState) -> str:
    return f"rollouts/{state.recommender}/guardrails"
