"""The log of a recommender's rollouts: the one place that holds where they stand and how that came about.

An entry holds all that a decision rests on, so each one can be computed again. The state after the last entry is the
state of the rollout: entry and state are written in one step, and nothing can come between them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal, Self

from endcap.errors import IntegrityError, UserError
from endcap.experiments.decision import Decision, apply_decision, decide
from endcap.experiments.evidence import RolloutEvidence
from endcap.experiments.rollout_state import GUARDED, RolloutCommand, RolloutState, apply_command, begin_rollout
from endcap.spec.rollout import RolloutSpec
from endcap.store import Store, fingerprint, get_release

Json = dict[str, Any]
EntryKind = Literal["begin", "decision", "command"]
ENTRIES_PER_DOCUMENT = 100
"""A look every ten minutes fills a document in 17 hours. A larger one takes longer to write at each look."""


@dataclass(frozen=True)
class RolloutLogEntry:
    """One step of a rollout.

    Attributes
    ----------
    number
        From 0 on, without a gap, over all rollouts of the recommender.
    kind
        begin: a rollout began; decision: a look decided; command: a person or a newer version asked for something.
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
        Of a command.
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


class DecisionLog:
    """The log of one recommender's rollouts in a store.

    Parameters
    ----------
    store
        Holds the log in documents `rollouts/<recommender>/log-<number>`.
    recommender
        Its name.

    Notes
    -----
    Each step is one change of one document (`Store.update_document`), under the condition that the log has not grown
    meanwhile. So of two writers one loses and reads what the other wrote. After a kill the step is there or not.
    """

    def __init__(self, store: Store, recommender: str) -> None:
        self._store = store
        self.recommender = recommender

    def read_entries(self) -> Iterator[RolloutLogEntry]:
        """Read all entries, oldest first. Raises IntegrityError for a damaged document."""
        for document in self._read_documents():
            yield from (self._parse(entry) for entry in document["entries"])

    def find_last(self) -> RolloutLogEntry | None:
        """Read the last entry; None if there was never a rollout. Raises IntegrityError for a damaged document."""
        count = self._count_documents()
        return self._parse(self._read(count - 1)["entries"][-1]) if count else None

    def read_rollout(self, version: str = "") -> list[RolloutLogEntry]:
        """Read the entries of one rollout, oldest first.

        Parameters
        ----------
        version
            A version that it rolled out; empty: the latest rollout of all. Of several of the version, the last.

        Raises
        ------
        UserError
            There was never a rollout, or none of the version.
        IntegrityError
            A document is damaged.
        """
        self._find_begun()
        entries: list[RolloutLogEntry] = []
        for place in reversed(range(self._count_documents())):
            for content in reversed(self._read(place)["entries"]):
                entries.append(self._parse(content))
                if entries[-1].kind != "begin":
                    continue
                if version in {"", *(entry.after.version for entry in entries)}:
                    return entries[::-1]
                entries.clear()
        raise UserError(
            f"there was never a rollout of version {version} of {self.recommender} in {self._store.root}. "
            f"`endcap rollout history {self.recommender} --all` lists all rollouts",
            code="experiments.no-rollout-of-version",
            recommender=self.recommender,
            version=version,
        )

    def read_policy(self, digest: str) -> RolloutSpec:
        """Read the policy that entries name by its digest. Raises IntegrityError if the log lacks it."""
        for number in reversed(range(self._count_documents())):
            policies = self._read(number)["policies"]
            if digest in policies:
                return RolloutSpec.model_validate(policies[digest])
        raise self._make_difference(None, f"no policy has the digest {digest}")

    def begin(
        self,
        version: str,
        package: str,
        previous_version: str,
        previous_package: str,
        policy: RolloutSpec,
        now: datetime,
    ) -> RolloutLogEntry:
        """Begin a rollout.

        Parameters
        ----------
        version, package, previous_version, previous_package
            As in `RolloutState`.
        policy, now
            As in `begin_rollout`.

        Returns
        -------
        RolloutLogEntry
            The entry with the first state. If the last entry began the same rollout already, that one.

        Raises
        ------
        UserError
            Another rollout runs.
        """
        after = begin_rollout(self.recommender, version, package, previous_version, previous_package, policy, now)

        def make(last: RolloutLogEntry | None) -> RolloutLogEntry:
            if last is not None:
                if last.kind == "begin" and _name_targets(last.after) == _name_targets(after):
                    return last
                self._check_room(last.after)
            return self._make_entry("begin", last, after, policy, now)

        return self._append(make, policy)

    def look(self, evidence: RolloutEvidence, policy: RolloutSpec, now: datetime) -> RolloutLogEntry:
        """Decide on the present state, and append the decision.

        Parameters
        ----------
        evidence, policy, now
            As in `decide`.

        Returns
        -------
        RolloutLogEntry
            The entry that is last now. Its `after` is the state to carry out. If another writer was faster, it is that
            writer's, and this look counts for nothing.

        Raises
        ------
        UserError
            There was never a rollout.
        """
        base = self._find_begun()

        def make(last: RolloutLogEntry | None) -> RolloutLogEntry:
            assert last is not None
            if last.number != base.number:
                return last
            decision = decide(last.after, evidence, policy, now)
            after = apply_decision(last.after, decision, policy, now)
            entry = self._make_entry("decision", last, after, policy, now)
            return replace(entry, evidence=evidence, decision=decision)

        return self._append(make, policy)

    def command(self, command: RolloutCommand, policy: RolloutSpec, now: datetime) -> RolloutLogEntry:
        """Carry out a command on the present state, and append it.

        Parameters
        ----------
        command, policy, now
            As in `apply_command`.

        Returns
        -------
        RolloutLogEntry
            The entry of the command.

        Raises
        ------
        UserError
            There was never a rollout, or the command does not fit the state.
        """
        self._find_begun()

        def make(last: RolloutLogEntry | None) -> RolloutLogEntry:
            assert last is not None
            after = apply_command(last.after, command, policy, now)
            return replace(self._make_entry("command", last, after, policy, now), command=command)

        return self._append(make, policy)

    def verify(self) -> int:
        """Compute every step again and compare it with what the log holds, byte for byte.

        Returns
        -------
        int
            How many entries there are.

        Raises
        ------
        IntegrityError
            An entry is missing, or differs from what follows from its state, evidence and policy. The error names the
            first one.

        Notes
        -----
        Another release may word its sentences otherwise. Of its entries, the sentences are not compared.
        """
        before: RolloutState | None = None
        count = 0
        policies: dict[str, RolloutSpec] = {}
        for document in self._read_documents():
            policies |= self._check_policies(document["policies"])
            for content in document["entries"]:
                entry = self._parse(content)
                if entry.number != count:
                    raise self._make_difference(count, f"the entry has the number {entry.number}")
                if entry.before != before:
                    raise self._make_difference(count, "its state before is not the state after the entry before it")
                if entry.policy not in policies:
                    raise self._make_difference(count, f"no policy has the digest {entry.policy}")
                again = self._compute_again(entry, policies[entry.policy])
                if _encode_comparably(content) != _encode_comparably(again.to_json()):
                    raise self._make_difference(count, "another step follows from its state, evidence and policy")
                before, count = entry.after, count + 1
        return count

    def _check_policies(self, policies: Mapping[str, Json]) -> dict[str, RolloutSpec]:
        for digest, policy in policies.items():
            if fingerprint(policy) != digest:
                raise self._make_difference(None, f"the policy {digest} was changed")
        return {digest: RolloutSpec.model_validate(policy) for digest, policy in policies.items()}

    def _compute_again(self, entry: RolloutLogEntry, policy: RolloutSpec) -> RolloutLogEntry:
        match entry:
            case RolloutLogEntry(kind="begin", after=after):
                state = begin_rollout(
                    self.recommender,
                    after.version,
                    after.package,
                    after.previous_version,
                    after.previous_package,
                    policy,
                    entry.time,
                )
                return replace(entry, after=state)
            case RolloutLogEntry(kind="command", before=RolloutState() as state, command=RolloutCommand() as command):
                return replace(entry, after=apply_command(state, command, policy, entry.time))
            case RolloutLogEntry(before=RolloutState() as state, evidence=RolloutEvidence() as evidence):
                decision = decide(state, evidence, policy, entry.time)
                return replace(entry, decision=decision, after=apply_decision(state, decision, policy, entry.time))
        raise self._make_difference(entry.number, "it lacks its state, evidence or command")

    def _check_room(self, state: RolloutState) -> None:
        """Raise UserError while a rollout runs. A champion's guard makes room for the next rollout."""
        if state.is_over or state.phase in GUARDED:
            return
        raise UserError(
            f"a rollout of {self.recommender} runs: version {state.version} is {state.phase} at "
            f"{100 * state.share:.4g} % of the shoppers. Wait for its end, or end it: "
            f"endcap rollout abort {self.recommender}",
            code="experiments.rollout-runs",
            recommender=self.recommender,
            version=state.version,
            phase=state.phase,
        )

    def _find_begun(self) -> RolloutLogEntry:
        last = self.find_last()
        if last is None:
            raise UserError(
                f"there was never a rollout of {self.recommender} in {self._store.root}. "
                "`endcap run` with its spec starts one, if the spec has a section rollout",
                code="experiments.no-rollout",
                recommender=self.recommender,
            )
        return last

    def _make_entry(
        self, kind: EntryKind, last: RolloutLogEntry | None, after: RolloutState, policy: RolloutSpec, now: datetime
    ) -> RolloutLogEntry:
        number, before = (0, None) if last is None else (last.number + 1, last.after)
        return RolloutLogEntry(number, kind, now, digest_policy(policy), before, after)

    def _append(
        self, make: Callable[[RolloutLogEntry | None], RolloutLogEntry], policy: RolloutSpec
    ) -> RolloutLogEntry:
        """Append what `make` makes of the last entry, unless that is the last entry itself."""
        while True:
            count = self._count_documents()
            entries = self._read(count - 1)["entries"] if count else []
            if count and len(entries) < ENTRIES_PER_DOCUMENT:
                appended = self._append_to(count - 1, None, make, policy)
            else:
                # A full document changes no more, so the first entry of the next one follows its last.
                last = self._parse(entries[-1]) if count else None
                entry = make(last)
                appended = last if entry is last else self._append_to(count, last, make, policy)
            if appended is not None:
                return appended

    def _append_to(
        self,
        place: int,
        opening: RolloutLogEntry | None,
        make: Callable[[RolloutLogEntry | None], RolloutLogEntry],
        policy: RolloutSpec,
    ) -> RolloutLogEntry | None:
        """Append to one document; None if it has become full meanwhile. opening: the last entry before the document."""
        result: list[RolloutLogEntry | None] = []

        def changed(document: Json | None) -> Json:
            result.clear()
            entries = [] if document is None else document["entries"]
            if len(entries) >= ENTRIES_PER_DOCUMENT:
                result.append(None)
                assert document is not None
                return document
            last = self._parse(entries[-1]) if entries else opening
            entry = make(last)
            result.append(entry)
            if entry is last:
                assert document is not None
                return document
            policies = {} if document is None else document["policies"]
            dumped = policy.model_dump(mode="json")
            return {"entries": [*entries, entry.to_json()], "policies": {**policies, entry.policy: dumped}}

        self._store.update_document(self._name(place), changed)
        return result[-1]

    def _count_documents(self) -> int:
        prefix = f"{self._folder}/log-"
        names = [name for name in self._store.list_documents(self._folder) if name.startswith(prefix)]
        return max((int(name.removeprefix(prefix)) + 1 for name in names), default=0)

    def _read_documents(self) -> Iterator[Json]:
        return (self._read(place) for place in range(self._count_documents()))

    def _read(self, place: int) -> Json:
        document = self._store.read_document(self._name(place))
        if document is None:
            raise self._make_difference(None, f"the document {self._name(place)} is missing")
        return document

    def _parse(self, document: Json) -> RolloutLogEntry:
        try:
            return RolloutLogEntry.from_json(document)
        except (KeyError, TypeError, ValueError) as error:
            raise self._make_difference(document.get("number"), f"it cannot be read ({error!r})") from None

    def _make_difference(self, number: int | None, cause: str) -> IntegrityError:
        entry = "the log" if number is None else f"entry {number} of the log"
        return IntegrityError(
            f"{entry} of {self.recommender}'s rollouts in {self._store.root} is not as Endcap wrote it: {cause}. "
            "Restore the store's documents from a copy, or set the shares by `endcap deploy`",
            code="experiments.log-differs",
            recommender=self.recommender,
            number=number,
            cause=cause,
        )

    @property
    def _folder(self) -> str:
        return f"rollouts/{self.recommender}"

    def _name(self, place: int) -> str:
        return f"{self._folder}/log-{place:06}"


def digest_policy(policy: RolloutSpec) -> str:
    """Return the digest of a policy: 20 hexadecimal digits."""
    return fingerprint(policy.model_dump(mode="json"))


def encode(document: Json) -> str:
    """Return JSON values as canonical text: the same text for the same values."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def _name_targets(state: RolloutState) -> tuple[str, ...]:
    return state.version, state.package, state.previous_version, state.previous_package


def _encode_comparably(entry: Json) -> str:
    """Return an entry as text; one of another release without its sentence."""
    if entry["release"] == get_release() or entry["decision"] is None:
        return encode(entry)
    return encode({**entry, "decision": {**entry["decision"], "sentence": ""}})
