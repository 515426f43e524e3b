"""A step of a rollout, computed again from what its entry of the log rests on."""

from __future__ import annotations

from dataclasses import replace

from endcap.experiments.decision import apply_decision, decide
from endcap.experiments.evidence import RolloutEvidence
from endcap.experiments.log_entry import RolloutLogEntry
from endcap.experiments.rollout_state import (
    RolloutCommand,
    RolloutState,
    apply_command,
    begin_rollout,
    roll_back_champion,
)
from endcap.spec.rollout import RolloutSpec


def compute_again(recommender: str, entry: RolloutLogEntry, policy: RolloutSpec) -> RolloutLogEntry | None:
    """Return the entry as it follows from its state, evidence or command, and policy; None if it lacks these."""
    match entry:
        case RolloutLogEntry(kind="begin", after=after):
            state = begin_rollout(
                recommender,
                after.version,
                after.package,
                after.previous_version,
                after.previous_package,
                policy,
                entry.time,
            )
            return replace(entry, after=state)
        case RolloutLogEntry(kind="rollback", after=after, command=RolloutCommand() as command):
            champion = (after.version, after.package)
            state = roll_back_champion(recommender, entry.before, champion, command, entry.time)
            return replace(entry, after=state)
        case RolloutLogEntry(kind="command", before=RolloutState() as state, command=RolloutCommand() as command):
            return replace(entry, after=apply_command(state, command, policy, entry.time))
        case RolloutLogEntry(before=RolloutState() as state, evidence=RolloutEvidence() as evidence):
            decision = decide(state, evidence, policy, entry.time)
            return replace(entry, decision=decision, after=apply_decision(state, decision, policy, entry.time))
    return None
