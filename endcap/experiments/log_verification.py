"""The log of rollouts computed again, and compared with what it holds, byte for byte."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from endcap.experiments.decision import apply_decision, decide
from endcap.experiments.evidence import RolloutEvidence
from endcap.experiments.log_documents import LogDocuments
from endcap.experiments.log_entry import Json, RolloutLogEntry, encode
from endcap.experiments.rollout_state import (
    RolloutCommand,
    RolloutState,
    apply_command,
    begin_rollout,
    roll_back_champion,
)
from endcap.spec.rollout import RolloutSpec
from endcap.store import fingerprint, get_release


def verify_log(documents: LogDocuments) -> int:
    """Compute every step of a log again (`DecisionLog.verify`).

    Returns
    -------
    int
        How many entries there are.

    Raises
    ------
    IntegrityError
        An entry is missing, or differs from what follows from its state, evidence and policy.
    """
    before: RolloutState | None = None
    count = 0
    policies: dict[str, RolloutSpec] = {}
    for document in documents.read_all():
        policies |= _check_policies(documents, document["policies"])
        for content in document["entries"]:
            entry = documents.parse(content)
            if entry.number != count:
                raise documents.make_difference(count, f"the entry has the number {entry.number}")
            if entry.before != before:
                raise documents.make_difference(count, "its state before is not the state after the entry before it")
            if entry.policy not in policies:
                raise documents.make_difference(count, f"no policy has the digest {entry.policy}")
            again = _compute_again(documents, entry, policies[entry.policy])
            if _encode_comparably(content) != _encode_comparably(again.to_json()):
                raise documents.make_difference(count, "another step follows from its state, evidence and policy")
            before, count = entry.after, count + 1
    return count


def _check_policies(documents: LogDocuments, policies: Mapping[str, Json]) -> dict[str, RolloutSpec]:
    for digest, policy in policies.items():
        if fingerprint(policy) != digest:
            raise documents.make_difference(None, f"the policy {digest} was changed")
    return {digest: RolloutSpec.model_validate(policy) for digest, policy in policies.items()}


def _compute_again(documents: LogDocuments, entry: RolloutLogEntry, policy: RolloutSpec) -> RolloutLogEntry:
    match entry:
        case RolloutLogEntry(kind="begin", after=after):
            state = begin_rollout(
                documents.recommender,
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
            state = roll_back_champion(documents.recommender, entry.before, champion, command, entry.time)
            return replace(entry, after=state)
        case RolloutLogEntry(kind="command", before=RolloutState() as state, command=RolloutCommand() as command):
            return replace(entry, after=apply_command(state, command, policy, entry.time))
        case RolloutLogEntry(before=RolloutState() as state, evidence=RolloutEvidence() as evidence):
            decision = decide(state, evidence, policy, entry.time)
            return replace(entry, decision=decision, after=apply_decision(state, decision, policy, entry.time))
    raise documents.make_difference(entry.number, "it lacks its state, evidence or command")


def _encode_comparably(entry: Json) -> str:
    """Return an entry as text; one of another release without its sentence."""
    if entry["release"] == get_release() or entry["decision"] is None:
        return encode(entry)
    return encode({**entry, "decision": {**entry["decision"], "sentence": ""}})
