"""The log of a recommender's A/B tests: the one place that holds where they stand and how that came about.

It is kept as the log of rollouts is (`log_documents`), in documents of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal, Self

from endcap.errors import UserError
from endcap.experiments.ab_decision import apply_ab_decision, decide_ab
from endcap.experiments.ab_decision_parts import AbDecision
from endcap.experiments.ab_evidence import AbEvidence
from endcap.experiments.ab_state import AbCommand, AbPolicy, AbState, apply_ab_command, begin_test
from endcap.experiments.log_documents import LogDocuments, LogFormat
from endcap.experiments.log_verification import verify_log
from endcap.store import Store, get_release

Json = dict[str, Any]
AbEntryKind = Literal["begin", "decision", "command"]
AB_FOLDER = "ab"


@dataclass(frozen=True)
class AbLogEntry:
    """One step of a test.

    Attributes
    ----------
    number
        From 0 on, without a gap, over all tests of the recommender.
    kind
        begin: a test began; decision: a look decided; command: a person asked for something.
    time
        The moment that the step was computed with, UTC.
    policy
        The digest of the policy that it was computed with (`AbLog.read_policy`).
    before
        The state before; None of the first entry.
    after
        The state after.
    evidence, decision
        Of a decision.
    command
        Of a command.
    by, why
        Of a begin: who asked for the test, and the reason.
    release
        The release of Endcap that computed the step.
    """

    number: int
    kind: AbEntryKind
    time: datetime
    policy: str
    before: AbState | None
    after: AbState
    evidence: AbEvidence | None = None
    decision: AbDecision | None = None
    command: AbCommand | None = None
    by: str = ""
    why: str = ""
    release: str = field(default_factory=get_release)

    @property
    def best(self) -> dict[str, float]:
        """How probable each version was the best at the look, 0 to 1; empty if the look could not tell."""
        allocation = None if self.decision is None else self.decision.allocation
        if allocation is None or allocation.reason == "no-evidence" or self.before is None:
            return {}
        return {self.before.name_version(arm): chance for arm, chance in allocation.best.items()}

    def to_json(self) -> Json:
        """Return the entry as JSON values."""
        parts = {name: getattr(self, name) for name in ("before", "after", "evidence", "decision", "command")}
        return {
            **vars(self),
            "time": self.time.isoformat(),
            **{name: None if part is None else part.to_json() for name, part in parts.items()},
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Read what `to_json` returned."""
        before, evidence, decision, command = (document[key] for key in ("before", "evidence", "decision", "command"))
        return cls(
            **{
                **document,
                "time": datetime.fromisoformat(document["time"]),
                "before": None if before is None else AbState.from_json(before),
                "after": AbState.from_json(document["after"]),
                "evidence": None if evidence is None else AbEvidence.from_json(evidence),
                "decision": None if decision is None else AbDecision.from_json(decision),
                "command": None if command is None else AbCommand.from_json(command),
            }
        )


AB_LOG: LogFormat[AbLogEntry, AbPolicy] = LogFormat(
    folder=AB_FOLDER,
    subject="A/B tests",
    remedy="end the test by `endcap ab stop`",
    parse_entry=AbLogEntry.from_json,
    parse_policy=AbPolicy.from_json,
    dump_policy=AbPolicy.to_json,
)


class AbLog:
    """The log of one recommender's A/B tests in a store.

    Parameters
    ----------
    store
        Holds the log in documents `ab/<recommender>/log-<number>`.
    recommender
        Its name.
    """

    def __init__(self, store: Store, recommender: str) -> None:
        self._store = store
        self._documents = LogDocuments(store, recommender, AB_LOG)
        self.recommender = recommender

    def read_entries(self) -> Iterator[AbLogEntry]:
        """Read all entries, oldest first. Raises IntegrityError for a damaged document."""
        return self._documents.read_entries()

    def find_last(self) -> AbLogEntry | None:
        """Read the last entry; None if there was never a test. Raises IntegrityError for a damaged document."""
        return next(self._documents.read_backwards(), None)

    def find_running(self) -> AbLogEntry | None:
        """Read the last entry of a test that runs; None if none does."""
        last = self.find_last()
        return None if last is None or last.after.is_over else last

    def read_test(self) -> list[AbLogEntry]:
        """Read the entries of the latest test, oldest first. Raises UserError if there was never one."""
        self._require_last()
        entries: list[AbLogEntry] = []
        for entry in self._documents.read_backwards():
            entries.append(entry)
            if entry.kind == "begin":
                break
        return entries[::-1]

    def read_policy(self, digest: str) -> AbPolicy:
        """Read the policy that entries name by its digest. Raises IntegrityError if the log lacks it."""
        return self._documents.read_policy(digest)

    def begin(
        self,
        stable: tuple[str, str],
        challengers: Sequence[tuple[str, str]],
        policy: AbPolicy,
        now: datetime,
        *,
        by: str = "",
        why: str = "",
    ) -> AbLogEntry:
        """Begin a test.

        Parameters
        ----------
        stable, challengers
            Version and package of each.
        policy
            By what it is run.
        now
            UTC.
        by, why
            Who asks, and the reason.

        Returns
        -------
        AbLogEntry
            The entry with the first state. If the last entry began a test of the same versions already, that one.

        Raises
        ------
        UserError
            Another test runs (``experiments.test-runs``).
        """
        after = begin_test(self.recommender, stable, challengers, now)

        def make(last: AbLogEntry | None) -> AbLogEntry:
            if last is not None and not last.after.is_over:
                is_same = (last.after.stable_version, last.after.challengers) == (stable[0], after.challengers)
                if last.kind == "begin" and is_same:
                    return last
                raise make_running_error(last.after, "endcap ab start")
            before = None if last is None else last.after
            number = 0 if last is None else last.number + 1
            return AbLogEntry(number, "begin", now, policy.digest, before, after, by=by, why=why)

        return self._documents.append(make, policy)

    def look(self, evidence: AbEvidence, policy: AbPolicy, now: datetime) -> AbLogEntry:
        """Decide on the present state, and append the decision.

        Returns
        -------
        AbLogEntry
            The entry that is last now. If another writer was faster, it is that writer's, and this look counts for
            nothing.

        Raises
        ------
        UserError
            There was never a test (``experiments.no-test``).
        """
        base = self._require_last()

        def make(last: AbLogEntry | None) -> AbLogEntry:
            assert last is not None
            if last.number != base.number:
                return last
            decision = decide_ab(last.after, evidence, policy, now)
            after = apply_ab_decision(last.after, decision, policy, now)
            entry = AbLogEntry(last.number + 1, "decision", now, policy.digest, last.after, after)
            return replace(entry, evidence=evidence, decision=decision)

        return self._documents.append(make, policy)

    def command(self, command: AbCommand, now: datetime) -> AbLogEntry:
        """Carry out a command on the present state, and append it.

        Raises
        ------
        UserError
            There was never a test (``experiments.no-test``), or the command does not fit the state.
        """
        policy = self.read_policy(self._require_last().policy)

        def make(last: AbLogEntry | None) -> AbLogEntry:
            assert last is not None
            after = apply_ab_command(last.after, command, now)
            return AbLogEntry(last.number + 1, "command", now, policy.digest, last.after, after, command=command)

        return self._documents.append(make, policy)

    def verify(self) -> int:
        """Compute every step again, its draws too, and compare it with what the log holds, byte for byte.

        Returns
        -------
        int
            How many entries there are.

        Raises
        ------
        IntegrityError
            An entry is missing, or differs from what follows from its state, evidence and policy.
        """
        return verify_log(self._documents, _compute_again)

    def _require_last(self) -> AbLogEntry:
        last = self.find_last()
        if last is None:
            raise UserError(
                f"there was never an A/B test of {self.recommender} in {self._store.root}. To begin one: "
                f"endcap ab start {self.recommender} VERSION",
                code="experiments.no-test",
                recommender=self.recommender,
            )
        return last


def make_running_error(state: AbState, attempt: str) -> UserError:
    """Make the error for what an A/B test that runs excludes."""
    versions = ", ".join(challenger.version for challenger in state.taking_part)
    return UserError(
        f"{attempt}: an A/B test of {state.recommender} runs with the versions {versions} and decides on shares. To "
        f"end it: endcap ab stop {state.recommender}, or endcap ab promote {state.recommender} VERSION",
        code="ab.runs",
        recommender=state.recommender,
        challengers=[challenger.version for challenger in state.taking_part],
        attempt=attempt,
    )


def _compute_again(recommender: str, entry: AbLogEntry, policy: AbPolicy) -> AbLogEntry | None:
    match entry:
        case AbLogEntry(kind="begin", after=after):
            challengers = [(each.version, each.package) for each in after.challengers]
            state = begin_test(recommender, (after.stable_version, after.stable_package), challengers, entry.time)
            return replace(entry, after=state)
        case AbLogEntry(kind="command", before=AbState() as state, command=AbCommand() as command):
            return replace(entry, after=apply_ab_command(state, command, entry.time))
        case AbLogEntry(before=AbState() as state, evidence=AbEvidence() as evidence):
            decision = decide_ab(state, evidence, policy, entry.time)
            return replace(entry, decision=decision, after=apply_ab_decision(state, decision, policy, entry.time))
    return None
