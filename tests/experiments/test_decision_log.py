"""The log of rollouts: every step can be computed again, and neither a kill nor a second writer adds or loses one."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from endcap.errors import IntegrityError, UserError
from endcap.experiments import log_documents
from endcap.experiments.decision_log import DecisionLog
from endcap.experiments.log_documents import Json
from endcap.experiments.log_entry import RolloutLogEntry
from endcap.experiments.rollout_state import RolloutCommand
from endcap.store import Store, open_store
from tests.experiments.rollouts import LOOK, START, make_effect, make_evidence, make_policy, show_ctr

POLICY = make_policy()
BOUNDS = [-0.9, -0.45, -0.4, -0.3, -0.2, -0.1, -0.05, -0.02]
"""The CTR's lower bound at each look: two looks without a raise, four raises, and a promotion at the end."""
SHARES = [0.01, 0.05, 0.1, 0.25, 0.5, 1.0]


def look_at(log: DecisionLog, number: int) -> RolloutLogEntry:
    now = START + (number + 1) * LOOK
    return log.look(make_evidence(POLICY, now, effects=show_ctr(BOUNDS[number])), POLICY, now)


def begin(log: DecisionLog, now: datetime = START) -> RolloutLogEntry:
    return log.begin("7", "packages/home/b", "6", "packages/home/a", POLICY, now)


def run(store: Store, since: int = 0) -> None:
    log = DecisionLog(store, "home")
    begin(log)
    for number in range(since, len(BOUNDS)):
        look_at(log, number)


def list_shares(store: Store) -> list[float]:
    return [share for share, _ in groupby(entry.after.share for entry in DecisionLog(store, "home").read_entries())]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


@pytest.fixture(params=[100, 1, 3])
def size(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many entries a document holds."""
    monkeypatch.setattr(log_documents, "ENTRIES_PER_DOCUMENT", request.param)
    return int(request.param)


@pytest.mark.usefixtures("size")
def test_each_step_of_a_rollout_is_in_the_log_and_follows_from_what_it_holds(store: Store) -> None:
    run(store)
    log = DecisionLog(store, "home")
    assert list_shares(store) == SHARES
    assert log.verify() == len(BOUNDS) + 1
    last = log.find_last()
    assert last is not None
    assert (last.number, last.after.phase, last.after.arm) == (len(BOUNDS), "guarding", "stable")
    assert log.read_policy(last.policy) == POLICY


@pytest.mark.usefixtures("size")
def test_one_rollout_of_several_is_read(store: Store) -> None:
    run(store)
    log = DecisionLog(store, "home")
    now = START + 20 * LOOK
    log.begin("8", "packages/home/c", "7", "packages/home/b", POLICY, now)
    log.command(RolloutCommand("refresh", "loop", version="9", package="packages/home/d"), POLICY, now)
    assert [entry.number for entry in log.read_rollout("7")] == list(range(len(BOUNDS) + 1))
    for version in ("", "8", "9"):
        assert [entry.kind for entry in log.read_rollout(version)] == ["begin", "command"]
    with pytest.raises(UserError, match="version 6") as caught:
        log.read_rollout("6")
    assert caught.value.code == "experiments.no-rollout-of-version"


def test_an_empty_log_says_so(store: Store) -> None:
    log = DecisionLog(store, "home")
    assert (log.find_last(), list(log.read_entries()), log.verify()) == (None, [], 0)
    with pytest.raises(UserError, match="never a rollout") as caught:
        look_at(log, 0)
    assert caught.value.code == "experiments.no-rollout"


def test_a_rollout_begins_once_and_not_beside_another(store: Store) -> None:
    log = DecisionLog(store, "home")
    first = begin(log)
    assert begin(log, START + LOOK) == first
    with pytest.raises(UserError, match="version 7 is rising") as caught:
        log.begin("8", "packages/home/c", "6", "packages/home/a", POLICY, START)
    assert caught.value.code == "experiments.rollout-runs"
    log.command(RolloutCommand("abort", "ada", "a mistake"), POLICY, START + LOOK)
    assert log.begin("8", "packages/home/c", "6", "packages/home/a", POLICY, START + LOOK).number == 2
    assert log.verify() == 3


def test_a_command_and_a_changed_policy_can_be_computed_again(store: Store) -> None:
    log = DecisionLog(store, "home")
    begin(log)
    look_at(log, 0)
    log.command(RolloutCommand("pause", "ada", "a sale"), POLICY, START + LOOK)
    log.command(RolloutCommand("resume", "ada"), POLICY, START + 2 * LOOK)
    other = make_policy(margin=0.5)
    now = START + 5 * LOOK
    log.look(make_evidence(other, now, effects=show_ctr(-0.4)), other, now)
    assert [entry.kind for entry in log.read_entries()] == ["begin", "decision", "command", "command", "decision"]
    assert log.verify() == 5
    with pytest.raises(UserError, match="resume does not fit"):
        log.command(RolloutCommand("resume", "ada"), POLICY, now)


def change_share(document: dict[str, Any]) -> None:
    document["entries"][3]["after"]["share"] = 0.9


def change_evidence(document: dict[str, Any]) -> None:
    document["entries"][3]["evidence"]["effects"][0]["lower"] = -0.6


def change_sentence(document: dict[str, Any]) -> None:
    document["entries"][3]["decision"]["sentence"] += " "


def change_policy(document: dict[str, Any]) -> None:
    next(iter(document["policies"].values()))["margin"] = 0.5


def drop_entry(document: dict[str, Any]) -> None:
    del document["entries"][3]


def drop_policy(document: dict[str, Any]) -> None:
    document["policies"] = {}


def add_key(document: dict[str, Any]) -> None:
    document["entries"][3]["more"] = 1


def drop_key(document: dict[str, Any]) -> None:
    del document["entries"][3]["evidence"]


@pytest.mark.parametrize(
    "change",
    [change_share, change_evidence, change_sentence, change_policy, drop_entry, drop_policy, add_key, drop_key],
)
def test_a_changed_log_is_noticed(store: Store, change: Callable[[dict[str, Any]], None]) -> None:
    run(store)
    name = "rollouts/home/log-000000"
    document = copy.deepcopy(store.read_document(name))
    assert document is not None
    change(document)
    store.write_document(name, document)
    with pytest.raises(IntegrityError) as caught:
        DecisionLog(store, "home").verify()
    assert caught.value.code == "experiments.log-differs"


def test_sentences_of_another_release_may_differ(store: Store) -> None:
    run(store)
    document = copy.deepcopy(store.read_document("rollouts/home/log-000000"))
    assert document is not None
    document["entries"][3] |= {"release": "0.0.1"}
    document["entries"][3]["decision"]["sentence"] = "In other words."
    store.write_document("rollouts/home/log-000000", document)
    assert DecisionLog(store, "home").verify() == len(BOUNDS) + 1


def test_a_log_that_did_not_grow_is_not_read_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    begin(DecisionLog(store, "home"))
    log, reads = DecisionLog(store, "home"), list[str]()
    read_document = store.read_document

    def note_read(name: str) -> Json | None:
        reads.append(name)
        return read_document(name)

    monkeypatch.setattr(store, "read_document", note_read)
    first = log.find_last()
    assert [log.find_last() for _ in range(3)] == [first] * 3
    assert reads == ["rollouts/home/log-000000"]
    look_at(DecisionLog(open_store(store.root), "home"), 0)
    last = log.find_last()
    assert first is not None
    assert last is not None
    assert (first.number, last.number) == (0, 1)
    assert reads == ["rollouts/home/log-000000"] * 2


class Killed(BaseException):
    """Ends a process in the test's place."""


class FragileStore:
    """A store whose caller is killed at one call: before it or after it."""

    def __init__(self, store: Store, fatal: int, *, after: bool) -> None:
        self._store, self._left, self._after = store, fatal, after

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._store, name)
        if not callable(attribute):
            return attribute

        def call(*arguments: Any, **keywords: Any) -> Any:
            self._left -= 1
            if self._left == 0 and not self._after:
                raise Killed
            result = attribute(*arguments, **keywords)
            if self._left == 0:
                raise Killed
            return result

        return call


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.slow
def test_a_kill_at_any_call_neither_repeats_nor_skips_a_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    monkeypatch.setattr(log_documents, "ENTRIES_PER_DOCUMENT", 3)
    kills = 0
    while True:
        store = open_store(str(tmp_path / f"store-{kills}"))
        try:
            run(FragileStore(store, kills + 1, after=after))  # type: ignore[arg-type]
        except Killed:
            kills += 1
        else:
            break
        # The loop starts again: it looks at once at what it had looked at last, and goes on from there.
        log = DecisionLog(store, "home")
        done = max(0, sum(entry.kind == "decision" for entry in log.read_entries()) - 1)
        if log.find_last() is None:
            begin(log)
        for number in range(done, len(BOUNDS)):
            look_at(log, number)
        assert list_shares(store) == SHARES
        log.verify()
    assert kills > 3 * len(BOUNDS)


@pytest.mark.usefixtures("size")
def test_of_two_loops_that_look_at_once_each_step_is_one_loops(store: Store) -> None:
    begin(DecisionLog(store, "home"))
    barrier, failures = threading.Barrier(2), []

    def loop() -> None:
        try:
            log = DecisionLog(open_store(store.root), "home")
            for number in range(len(BOUNDS)):
                barrier.wait(timeout=60)
                look_at(log, number)
        except BaseException as error:
            failures.append(error)
            barrier.abort()

    loops = [threading.Thread(target=loop) for _ in range(2)]
    for thread in loops:
        thread.start()
    for thread in loops:
        thread.join()
    assert failures == []
    assert list_shares(store) == SHARES
    count = DecisionLog(store, "home").verify()
    assert len(BOUNDS) + 1 <= count <= 2 * len(BOUNDS) + 1


def test_a_look_that_was_overtaken_counts_for_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another loop appends between this one's reading and its writing."""
    begin(DecisionLog(store, "home"))
    other = DecisionLog(open_store(store.root), "home")
    update = store.update_document

    def overtaken(*arguments: Any, **keywords: Any) -> Any:
        monkeypatch.setattr(store, "update_document", update)
        look_at(other, 1)
        return update(*arguments, **keywords)

    monkeypatch.setattr(store, "update_document", overtaken)
    entry = look_at(DecisionLog(store, "home"), 0)
    assert entry.number == 1
    assert entry.evidence is not None
    assert entry.evidence.effects[0] == make_effect("ctr", BOUNDS[1])
    assert DecisionLog(store, "home").verify() == 2


def test_a_command_that_was_overtaken_is_carried_out_on_the_newer_state(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(DecisionLog(store, "home"))
    other = DecisionLog(open_store(store.root), "home")
    update = store.update_document

    def overtaken(*arguments: Any, **keywords: Any) -> Any:
        monkeypatch.setattr(store, "update_document", update)
        look_at(other, 1)
        return update(*arguments, **keywords)

    monkeypatch.setattr(store, "update_document", overtaken)
    entry = DecisionLog(store, "home").command(RolloutCommand("pause", "ada"), POLICY, START + 3 * LOOK)
    assert (entry.number, entry.after.phase, entry.after.share) == (2, "paused", 0.05)
    assert DecisionLog(store, "home").verify() == 3
