"""The log of a recommender's rollouts: the one place that holds where they stand and how that came about.

An entry holds all that a decision rests on, so each one can be computed again. The state after the last entry is the
state of the rollout: entry and state are written in one step, and nothing can come between them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime

from endcap.errors import UserError
from endcap.experiments.decision import apply_decision, decide
from endcap.experiments.evidence import RolloutEvidence
from endcap.experiments.log_documents import LogDocuments
from endcap.experiments.log_entry import ROLLOUT_LOG, EntryKind, RolloutLogEntry, digest_policy
from endcap.experiments.log_verification import verify_log
from endcap.experiments.rollout_state import (
    GUARDED,
    RolloutCommand,
    RolloutState,
    apply_command,
    begin_rollout,
    roll_back_champion,
)
from endcap.experiments.rollout_verification import compute_again
from endcap.spec.rollout import RolloutSpec
from endcap.store import Store


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
        self._documents = LogDocuments(store, recommender, ROLLOUT_LOG)
        self.recommender = recommender

    def read_entries(self) -> Iterator[RolloutLogEntry]:
        """Read all entries, oldest first. Raises IntegrityError for a damaged document."""
        return self._documents.read_entries()

    def find_last(self) -> RolloutLogEntry | None:
        """Read the last entry; None if there was never a rollout. Raises IntegrityError for a damaged document."""
        return next(self._documents.read_backwards(), None)

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
        for entry in self._documents.read_backwards():
            entries.append(entry)
            if not entry.is_first:
                continue
            if version in {"", *(each.after.version for each in entries)}:
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
        return self._documents.read_policy(digest)

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

        return self._documents.append(make, policy)

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

        return self._documents.append(make, policy)

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

        return self._documents.append(make, policy)

    def roll_back(
        self, champion: tuple[str, str], target: tuple[str, str], by: str, why: str, now: datetime
    ) -> RolloutLogEntry:
        """Have the champion before come back, and append it.

        Parameters
        ----------
        champion, target
            Version and package of the champion, and of the version that comes back.
        by, why
            Who asks, and the reason.
        now
            UTC.

        Returns
        -------
        RolloutLogEntry
            The entry, whose state has ended: its version is to serve nobody.

        Raises
        ------
        UserError
            A rollout runs.
        """
        command, policy = RolloutCommand("rollback", by, why, *target), RolloutSpec()

        def make(last: RolloutLogEntry | None) -> RolloutLogEntry:
            before = None if last is None else last.after
            if before is not None:
                self._check_room(before)
            after = roll_back_champion(self.recommender, before, champion, command, now)
            return replace(self._make_entry("rollback", last, after, policy, now), command=command)

        return self._documents.append(make, policy)

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
        return verify_log(self._documents, compute_again)

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


def _name_targets(state: RolloutState) -> tuple[str, ...]:
    return state.version, state.package, state.previous_version, state.previous_package
