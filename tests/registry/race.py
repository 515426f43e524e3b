"""A race of registrations and decisions on one recommender, from several processes, and what must be true of it.

Each round begins one act in each process at the same moment. ``unexplained`` says which rounds ended as no serial order
of their acts would. Each process is ``python -m tests.registry.race``.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import random
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from endcap.errors import EndcapError
from endcap.registry import Registry
from endcap.store import open_store

ROOT = Path(__file__).parents[2]
Versions = dict[str, tuple[str, tuple[str, ...], bool]]
"""State, aliases, and whether it has had its alias, of each version, by its package."""


@dataclass(frozen=True)
class Act:
    """What a process does. kind: register, wait (registered, but for a person to approve), approve, reject, promote."""

    kind: str
    name: str
    package: str


@dataclass(frozen=True)
class Round:
    """Acts at once, the code of each (empty: it went well), and the versions before and after, the oldest first."""

    acts: Sequence[Act]
    codes: Sequence[str]
    before: Versions
    after: Versions
    repeated: bool
    """Whether a package has several versions."""


class Racers:
    """Processes that wait for an act each."""

    def __init__(self, store: str, registry: str, environments: Sequence[Mapping[str, str]]) -> None:
        words = [sys.executable, "-m", "tests.registry.race", store, registry]
        self._registry = Registry(registry, open_store(store))
        self._processes = [
            subprocess.Popen(
                words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=dict(environment) or None
            )
            for environment in environments
        ]
        for process in self._processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"

    def act(self, acts: Sequence[Act]) -> Round:
        """Have all of the acts done at once; there are as many as processes."""
        before, _ = self._versions(acts[0].name)
        for process, act in zip(self._processes, acts, strict=True):
            assert process.stdin is not None
            process.stdin.write(f"{json.dumps(asdict(act))}\n")
            process.stdin.flush()
        codes = [process.stdout.readline().strip() for process in self._processes if process.stdout is not None]
        return Round(acts, codes, before, *self._versions(acts[0].name))

    def close(self) -> None:
        for process in self._processes:
            process.communicate()

    def _versions(self, name: str) -> tuple[Versions, bool]:
        known = self._registry.list_versions(name)
        listed = {
            version.package: (version.state, tuple(version.aliases), "settled" in version.tags) for version in known
        }
        return listed, len(listed) < len(known)


@contextlib.contextmanager
def racers(store: str, registry: str, environments: Sequence[Mapping[str, str]]) -> Iterator[Racers]:
    """As many processes as there are environments."""
    started = Racers(store, registry, environments)
    try:
        yield started
    finally:
        started.close()


def race(started: Racers, processes: int, store: str, seed: int, count: int) -> list[Round]:
    """Run `count` rounds of acts out of a seed, on a recommender of their own."""
    chance, name, rounds = random.Random(seed), f"raced-{seed}", list[Round]()
    packages = [f"{store}/packages/{name}/{number}" for number in range(6)]
    for _ in range(count):
        known = list(rounds[-1].after) if rounds else []
        acts = []
        for _ in range(processes):
            kind = chance.choice(["register", "wait", "approve", "reject", "promote"]) if known else "register"
            package = chance.choice(packages if kind in ("register", "wait") else known)
            acts.append(Act(kind, name, package))
        rounds.append(started.act(acts))
    return rounds


def unexplained(rounds: Sequence[Round]) -> list[Round]:
    """The rounds that no serial order of their acts explains."""
    return [ended for ended in rounds if ended.repeated or not any(_ends_so(ended, order) for order in _orders(ended))]


def _orders(ended: Round) -> Iterator[tuple[int, ...]]:
    return itertools.permutations(range(len(ended.acts)))


def _ends_so(ended: Round, order: Sequence[int]) -> bool:
    states = {package: state for package, (state, _, _) in ended.before.items()}
    holders = {alias: package for package, (_, aliases, _) in ended.before.items() for alias in aliases}
    settled = {package for package, (_, _, had) in ended.before.items() if had}
    for number in order:
        if _done(ended.acts[number], states, holders, settled) != ended.codes[number]:
            return False
    aliases = {package: tuple(sorted(alias for alias in holders if holders[alias] == package)) for package in states}
    return ended.after == {package: (states[package], aliases[package], package in settled) for package in states}


def _done(act: Act, states: dict[str, str], holders: dict[str, str], settled: set[str]) -> str:
    """Do an act to a model of the registry; its code."""
    package = act.package
    if act.kind in ("register", "wait"):
        states.setdefault(package, "approved" if act.kind == "register" else "pending")
    elif act.kind == "promote":
        if states[package] != "approved":
            return "registry.not-approved"
        holders["champion"] = package
        if holders.get("challenger") == package:
            del holders["challenger"]
    elif act.kind == "reject":
        if holders.get("champion") == package:
            return "registry.is-champion"
        states[package] = "rejected"
        if holders.get("challenger") == package:
            del holders["challenger"]
    else:
        states[package] = "approved"
    if states[package] == "approved" and package not in settled:
        settled.add(package)
        holders["challenger" if "champion" in holders else "champion"] = package
    return ""


def _worker(store_url: str, registry_uri: str) -> None:
    registry = Registry(registry_uri, open_store(store_url))
    print("ready", flush=True)
    for line in sys.stdin:
        act, code = Act(**json.loads(line)), ""
        try:
            _do(act, registry)
        except EndcapError as error:
            code = error.code
        print(code, flush=True)


def _do(act: Act, registry: Registry) -> None:
    if act.kind in ("register", "wait"):
        registry.add_version(act.name, act.package, "approved" if act.kind == "register" else "pending", "a race", {})
        return
    version = next(known.version for known in registry.list_versions(act.name) if known.package == act.package)
    if act.kind == "promote":
        registry.promote(act.name, version)
    elif act.kind == "approve":
        registry.approve(act.name, version, by="ann", why="a race")
    else:
        registry.reject(act.name, version, by="bob", why="a race")


if __name__ == "__main__":
    _worker(sys.argv[1], sys.argv[2])
