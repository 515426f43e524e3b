"""A race of share, shadow and deploy changes on one recommender, from several processes, and what must be true of it.

``race`` makes ``count`` changes out of a seed and returns what each was acknowledged with; ``losses`` says which of
them no serial order explains. Each process is ``python -m tests.deploy.race``.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from endcap.deploy import Deployment, Target, deploy, find_state, set_shadow, set_share, withdraw
from endcap.errors import EndcapError
from endcap.spec import Recommender
from endcap.store import Store, open_store

ROOT = Path(__file__).parents[2]
RECOMMENDER = Recommender.model_validate(
    {
        "apiVersion": "endcap/v2",
        "kind": "Recommender",
        "name": "raced",
        "shop": "demo",
        "model": {"name": "popularity"},
        "serving": {"canary": {"share": 0.2}, "fallback": "refuse"},
    }
)
REFUSALS = {"deploy.no-canary", "deploy.shadow-answers"}
"""What a change may be refused with that came too late."""
Served = tuple[str, tuple[str, float] | None, tuple[str, float] | None]
"""The stable version, and canary and shadow with their shares."""


@dataclass(frozen=True)
class Change:
    """What is asked for. kind: share, shadow, unshadow, deploy or withdraw."""

    kind: str
    version: str = ""
    share: float = 0.0


@dataclass(frozen=True)
class Answer:
    """What came of a change: the state that it was acknowledged with, or the code that it was refused with."""

    change: Change
    state: Mapping[str, Any] | None
    code: str


def race(
    store: str,
    seed: int,
    count: int,
    *,
    processes: int = 2,
    threads: int = 2,
    registry: str = "",
    environments: Sequence[Mapping[str, str]] = (),
) -> list[Answer]:
    """Make `count` changes of the recommender `raced`, which is deployed already with a canary, all at once.

    registry: where its versions are; with it one change in five is a deployment. environments: of each process, where
    they are on machines of their own.
    """
    words = [sys.executable, "-m", "tests.deploy.race", store, registry, str(threads), str(count // processes)]
    environments = environments or [{}] * processes
    running = [
        subprocess.Popen(
            [*words, f"{seed}/{number}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=dict(environment) or None,
        )
        for number, environment in enumerate(environments)
    ]
    for process in running:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in running:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    with ThreadPoolExecutor() as pool:
        outputs = list(pool.map(lambda process: process.communicate(), running))
    assert [process.returncode for process in running] == [0] * processes
    answers = [json.loads(line) for out, _ in outputs for line in out.splitlines()]
    return [Answer(Change(**answer["change"]), answer["state"], answer["code"]) for answer in answers]


def find_losses(before: Deployment, answers: Sequence[Answer], after: Deployment | None) -> list[str]:
    """What no serial order of the changes explains; nothing where none was lost.

    The states that were acknowledged, in the order of their times, must each be the state before it with its own
    change, and the last must be what is stored.
    """
    wrong = [
        f"{answer.change} was refused with {answer.code}"
        for answer in answers
        if answer.code and answer.code not in REFUSALS
    ]
    at: dict[datetime, list[tuple[Change, Served]]] = {before.changed: []}
    for answer in answers:
        if answer.state is not None:
            changed = datetime.fromisoformat(answer.state["changed"])
            at.setdefault(changed, []).append((answer.change, _served(answer.state)))
    present = _served(before.model_dump(mode="json"))
    for changed in sorted(at):
        states = {served for _, served in at[changed]} or {present}
        explained = changed == before.changed or any(_applied(change, present) in states for change, _ in at[changed])
        # Who changed nothing is acknowledged with the state that was there.
        same = sum(_applied(change, served) == served for change, served in at[changed]) == len(at[changed])
        if len(states) > 1 or not explained or not same:
            wrong.append(f"{at[changed]} after {present}")
        (present, *_) = states
    stored = None if after is None else _served(after.model_dump(mode="json"))
    return wrong if stored == present else [*wrong, f"the last change made {present}, stored is {stored}"]


def _applied(change: Change, state: Served) -> Served:
    stable, canary, shadow = state
    if change.kind == "share":
        return stable, (canary[0], change.share) if canary else ("none", 0.0), shadow
    if change.kind == "shadow":
        return stable, canary, (change.version, change.share)
    if change.kind == "unshadow":
        return stable, canary, None
    if change.kind == "withdraw":
        return stable, None, shadow
    same = canary is not None and canary[0] == change.version
    answers = (stable, change.version)
    canary = canary if same else (change.version, RECOMMENDER.serving.canary.share)
    return stable, canary, None if shadow is not None and shadow[0] in answers else shadow


def _served(state: Mapping[str, Any]) -> Served:
    canary, shadow = (state[role] and (state[role]["version"], state[role]["share"]) for role in ("canary", "shadow"))
    return state["stable"]["version"], canary, shadow


def _changes(chance: random.Random, count: int, *, deploys: bool) -> list[Change]:
    changes = []
    for _ in range(count):
        kind = chance.choice(["share", "share", "shadow", "shadow", "deploy" if deploys else "share"])
        if kind == "deploy" and chance.random() < 0.3:
            kind = "withdraw"
        if kind == "shadow" and chance.random() < 0.2:
            kind = "unshadow"
        version = {"shadow": "345", "deploy": "23", "withdraw": "23"}.get(kind)
        changes.append(Change(kind, chance.choice(version) if version else "", round(chance.uniform(0.01, 1), 6)))
    return changes


def _make(change: Change, store: Store, registry: str) -> Deployment | None:
    name = RECOMMENDER.name
    if change.kind == "share":
        return set_share(name, change.share, store)
    if change.kind == "deploy":
        return deploy(RECOMMENDER, change.version, store, registry)
    if change.kind == "withdraw":
        return withdraw(name, change.version, store)
    shadow = Target(version=change.version, package=f"packages/raced/{change.version}") if change.version else None
    return set_shadow(name, shadow if change.kind == "shadow" else None, change.share, store)


def _worker(url: str, registry: str, threads: int, count: int, seed: str) -> None:
    store, printing = open_store(url), threading.Lock()

    def work(number: int) -> None:
        share = count // threads + (number < count % threads)
        for change in _changes(random.Random(f"{seed}/{number}"), share, deploys=bool(registry)):
            state, code = None, ""
            try:
                state = _make(change, store, registry)
            except EndcapError as error:
                code = error.code
            document = None if state is None else state.model_dump(mode="json")
            with printing:
                print(json.dumps({"change": asdict(change), "state": document, "code": code}), flush=True)

    running = [threading.Thread(target=work, args=[number]) for number in range(threads)]
    find_state(RECOMMENDER.name, store)
    print("ready", flush=True)
    sys.stdin.readline()
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()


if __name__ == "__main__":
    _worker(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
