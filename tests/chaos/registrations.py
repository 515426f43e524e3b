"""Registrations at once: one package is one version, however often it is registered; first packages have a champion."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from endcap.registry.versions import Registry
from endcap.store import open_store
from tests.chaos.attack import Attack, Seen, Stage
from tests.registry.conftest import judged, publish
from tests.registry.server import running_mlflow
from tests.store.servers import moto

TOGETHER = 3
BUCKET = "registrations"
REGISTER = """
import json, sys
from endcap.errors import EndcapError
from endcap.registry import register
from endcap.spec import Recommender
from endcap.store import open_store
store, registry = open_store(sys.argv[1]), sys.argv[2]
spec = {"apiVersion": "endcap/v2", "kind": "Recommender", "shop": "demo", "model": {"name": "popularity"}}
print("ready", flush=True)
for line in sys.stdin:
    name, package, verdict = json.loads(line)
    try:
        answer = register(Recommender.model_validate({**spec, "name": name}), package, verdict, store, registry)
    except EndcapError as error:
        answer = error.code
    except Exception as error:
        answer = f"{type(error).__name__}: {error}"[:300]
    print(json.dumps(answer), flush=True)
"""


@dataclass(frozen=True)
class Registered(Seen):
    """Registrations at once. expected: versions that there should be; there: aliases of each that there is; said: of
    each process, the version or the error's code."""

    expected: int = 1
    there: tuple[tuple[str, ...], ...] = (("champion",),)
    said: tuple[str, ...] = ()


def attempts(stage: Stage) -> Iterator[Registered]:
    """With MLflow's own server, and packages in a bucket: what a cluster has."""
    template, folder = stage.folder / "empty.db", stage.place("mlflow")
    Registry(f"sqlite:///{template}")
    with moto() as server, running_mlflow(folder, template) as uri:
        os.environ.update(server.environment() | {"ENDCAP_CACHE": str(stage.folder / "cache")})
        server.client().make_bucket(BUCKET)
        store = open_store(f"s3://{BUCKET}/store")
        verdict = judged(store)
        with processes(stage.folder / "log", store.root, uri) as several:
            for number in stage.numbers:
                name, alone = f"demo-{number}", number % 2 == 0
                packages = [publish(store, f"packages/{name}", f"p{at}") for at in range(1 if alone else TOGETHER)]
                time.sleep(stage.chance(number).uniform(0, 0.2))
                for at, process in enumerate(several):
                    _write(process, json.dumps([name, packages[at % len(packages)], verdict]))
                said = tuple(json.loads(_line(process)) for process in several)
                versions = Registry(uri, store).list_versions(name)
                aliases = tuple(tuple(sorted(version.aliases)) for version in versions)
                kind = "one package" if alone else "first packages"
                yield Registered(number, kind, len(packages), aliases, said)


@contextlib.contextmanager
def processes(log: Path, root: str, registry: str) -> Iterator[list[subprocess.Popen[str]]]:
    """Those that register, each ready to."""
    words = [sys.executable, "-c", REGISTER, root, registry]
    with contextlib.ExitStack() as stack:
        errors = stack.enter_context(log.open("w"))
        several = []
        for _ in range(TOGETHER):
            process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True)
            stack.callback(process.wait)
            stack.callback(process.kill)
            several.append(process)
        for process in several:
            assert _line(process).strip() == "ready", log.read_text()
        yield several


def _write(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{line}\n")
    process.stdin.flush()


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def judge(seen: Registered) -> Iterator[str]:
    if len(seen.there) != seen.expected:
        yield f"{seen.expected} packages became {len(seen.there)} versions; told were {seen.said}"
    if sum("champion" in aliases for aliases in seen.there) != 1:
        yield f"there is not one champion: {seen.there}"
    if odd := [each for each in seen.said if not each.isdigit()]:
        yield f"a registration failed: {odd}"


ATTACK = Attack("registrations", "registrations at once", attempts, judge, full=6, short=1, limit=600)
