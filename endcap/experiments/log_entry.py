"""An entry of the log of rollouts: one step, with all that it rests on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Self

from endcap.experiments.decision_parts import Decision
from endcap.experiments.evidence import RolloutEvidence
from endcap.experiments.log_documents import Json, LogFormat
from endcap.experiments.rollout_state import RolloutCommand, RolloutState
from endcap.spec.rollout import RolloutSpec
from endcap.store import fingerprint, get_release

EntryKind = Literal["begin", "decision", "command", "rollback"]


@dataclass(frozen=True)
class RolloutLogEntry:
    """One step of a rollout.

    Attributes
    ----------
    number
        From 0 on, without a gap, over all rollouts of the recommender.
    kind
        begin: a rollout began; decision: a look decided; command: a person or a newer version asked for something;
        rollback: a person had the champion before come back.
    time
        The moment that the step was computed with, UTC.
    policy
        The digest of the policy that it was computed with (`DecisionLog.read_policy`).
    before
        The state before; None of the first entry.
    after
        The state after.
    evidence, decision
        Of a decision.
    command
        Of a command, and of a rollback.
    release
        The release of Endcap that computed the step.
    """

    number: int
    kind: EntryKind
    time: datetime
    policy: str
    before: RolloutState | None
    after: RolloutState
    evidence: RolloutEvidence | None = None
    decision: Decision | None = None
    command: RolloutCommand | None = None
    release: str = field(default_factory=get_release)

    @property
    def is_first(self) -> bool:
        """Whether it is the first entry of its rollout."""
        before, after = self.before, self.after
        is_same = before is not None and (before.version, before.created) == (after.version, after.created)
        return self.kind == "begin" or (self.kind == "rollback" and not is_same)

    def to_json(self) -> Json:
        """Return the entry as JSON values."""
        return {
            "number": self.number,
            "kind": self.kind,
            "time": self.time.isoformat(),
            "policy": self.policy,
            "before": None if self.before is None else self.before.to_json(),
            "after": self.after.to_json(),
            "evidence": None if self.evidence is None else self.evidence.to_json(),
            "decision": None if self.decision is None else self.decision.to_json(),
            "command": None if self.command is None else self.command.to_json(),
            "release": self.release,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Read what `to_json` returned."""
        before, evidence, decision, command = (document[key] for key in ("before", "evidence", "decision", "command"))
        return cls(
            number=document["number"],
            kind=document["kind"],
            time=datetime.fromisoformat(document["time"]),
            policy=document["policy"],
            before=None if before is None else RolloutState.from_json(before),
            after=RolloutState.from_json(document["after"]),
            evidence=None if evidence is None else RolloutEvidence.from_json(evidence),
            decision=None if decision is None else Decision.from_json(decision),
            command=None if command is None else RolloutCommand.from_json(command),
            release=document["release"],
        )


ROLLOUT_LOG: LogFormat[RolloutLogEntry, RolloutSpec] = LogFormat(
    folder="rollouts",
    subject="rollouts",
    remedy="set the shares by `endcap deploy`",
    parse_entry=RolloutLogEntry.from_json,
    parse_policy=RolloutSpec.model_validate,
    dump_policy=lambda policy: policy.model_dump(mode="json"),
)


def digest_policy(policy: RolloutSpec) -> str:
    """Return the digest of a policy: 20 hexadecimal digits."""
    return fingerprint(policy.model_dump(mode="json"))


def encode(document: Json) -> str:
    """Return JSON values as canonical text: the same text for the same values."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
