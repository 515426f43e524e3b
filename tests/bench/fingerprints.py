"""How often keys of steps change for nothing: the last hundred commits before keys were made of closures, replayed.

For each commit the closure of each step's entry is read from git's objects; nothing is checked out. Those of the
hundred that touch the library's rooms are labelled by hand (`COULD`): the steps whose output the commit could change,
since it changes what such a step runs on the way to its output, other than words for people and checks that only
refuse.

Older trees have no plain settings and another layout. Their entries are today's; today's cuts hold, and `THEN` for what
has been parted since: then `CODE` lists named whole rooms, and evaluate and recommend loaded packages with their
rankers.
"""

from __future__ import annotations

import functools
import subprocess
import time
from collections.abc import Callable
from typing import Any

from endcap.steps import STEPS
from endcap.store.code import EXCLUDED_CODE, fingerprint_code
from endcap.store.code_closure import ModuleSource, find_closure
from endcap.store.syntax import ParsedModule, parse_module

LAST, COUNT, MOST = "edb8b79", 100, 2.0
ENTRIES = {name: step.entry for name, step in STEPS.items() if step.entry}
COULD = {
    "edb8b79": "",
    "066857b": "",
    "9ce7136": "refit",
    "d3131d2": "refit",
    "55575db": "train evaluate refit recommend",
    "5a9141d": "",
    "6d3930b": "",
    "eabea72": "",
    "4974764": "",
    "0e3c4bb": "train evaluate refit recommend",
    "51cdd69": "",
    "43812f8": "train evaluate refit recommend",
    "c606d24": "",
    "a0c0cd9": "refit",
    "30b6d24": "train evaluate refit recommend",
    "bcabd10": "",
    "3856e88": "refit",
    "3c61a2b": "recommend",
    "6e216e3": "evaluate refit",
    "9150607": "train evaluate refit recommend",
    "a21a38a": "",
    "e481de5": "",
    "ae21cde": "recommend",
    "0bb1151": "train evaluate refit",
    "76ec7c7": "refit",
    "eacece3": "ingest features",
    "a8de7a2": "evaluate refit",
    "0c668fb": "",
    "aacddb9": "",
    "5a1ab38": "",
    "a9a507c": "",
    "8440ac0": "train refit",
}
_LISTS = (
    "endcap.batch.recommend:CODE",
    "endcap.evaluation.judge:CODE",
    "endcap.events.ingestion:CODE",
    "endcap.features.dataset:CODE",
    "endcap.models.catalogue:CODE",
    "endcap.training.refit:PACKAGE_CODE",
    "endcap.training.train:CODE",
)
_RANKER = "endcap.ranking.ranker:Ranker"
THEN = {
    "features": ("endcap.features.sessions",),
    "evaluate": (_RANKER,),
    "refit": ("endcap.training.search.tuning",),
    "recommend": (_RANKER, "endcap.training.search.tuning"),
}
"""Cuts on older trees alone."""


def measure() -> list[dict[str, Any]]:
    """See `tests.bench`."""
    commits = _git("log", "--format=%h", "--abbrev=7", "-n", str(COUNT + 1), LAST).split()
    keys = [_keys(commit) for commit in commits]
    changed: dict[str, set[str]] = {name: set() for name in ENTRIES}
    for commit, after, before in zip(commits, keys, keys[1:], strict=False):
        for name in ENTRIES:
            if after[name] != before[name]:
                changed[name].add(commit)
    results = []
    for name, those in changed.items():
        could = {commit for commit, steps in COULD.items() if name in steps.split()}
        missed = could - those
        how = f"{len(those)} commits changed the key, {len(could)} could change the output"
        results.append(
            {
                "name": f"fingerprints: {name}, key changes for each of its output",
                "value": len(those) / len(could),
                "unit": "times",
                "floor": MOST,
                "lower_is_better": True,
                "how": f"{how}; unseen: {', '.join(sorted(missed)) or 'none'}",
            }
        )
        print(f"{name}: {how}; beside those: {', '.join(sorted(those - could)) or 'none'}; unseen: {sorted(missed)}")
    assert not set.union(*changed.values()) - set(COULD), "a commit that changed a key is not labelled"
    return [*results, *_time()]


def _keys(commit: str) -> dict[str, str]:
    read = _reader(commit)
    return {
        name: find_closure([entry], read, {*EXCLUDED_CODE, *_LISTS, *THEN.get(name, ())}).digest()
        if read(entry.partition(":")[0])
        else ""
        for name, entry in ENTRIES.items()
    }


def _reader(commit: str) -> Callable[[str], ModuleSource | None]:
    """Modules as a commit has them."""
    lines = (line.split("\t") for line in _git("ls-tree", "-r", commit, "endcap").splitlines())
    objects = {path: told.split()[2] for told, path in lines if path.endswith(".py")}

    def read(name: str) -> ModuleSource | None:
        place = name.replace(".", "/")
        for path, package in ((f"{place}/__init__.py", True), (f"{place}.py", False)):
            if path in objects:
                return ModuleSource(objects[path].encode(), package, parse=_parsed)
        return None

    return read


@functools.cache
def _parsed(name: bytes) -> ParsedModule:
    return parse_module(_git("cat-file", "blob", name.decode()))


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout


def _time() -> list[dict[str, Any]]:
    """Of the largest closure, whose modules were parsed before."""
    took = []
    for _ in range(5):
        fingerprint_code.cache_clear()
        begun = time.process_time()
        fingerprint_code(ENTRIES["train"])
        took.append(time.process_time() - begun)
    return [
        {
            "name": "fingerprints: seconds of the train step's code",
            "value": min(took),
            "unit": "s",
            "floor": 0.3,
            "lower_is_better": True,
            "how": "processor time, the modules parsed by an earlier run",
        }
    ]
