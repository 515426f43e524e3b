"""Rankings under load: Envoy, one predictor and the load generator on one machine, and beside them a model that does
nothing.

Models are fitted for one epoch on made-up sessions: what they rank by is of no account, only how long it takes.
ENDCAP_BENCH_SECONDS: of the steady loads, 60 as the floors have it; the ladders' steps take a sixth of it.
ENDCAP_BENCH_ONLY: the cases whose names hold this text.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
from pydantic import TypeAdapter

from endcap.deploy.state import Deployment, Target, write_state
from endcap.features.sessions import Sessions
from endcap.features.view import Vocabulary
from endcap.models import Fitting, make
from endcap.registry.package import write_package
from endcap.spec import Recommender
from endcap.spec.model import ModelSpec
from endcap.store import Store, open_store
from endcap_serving.gateway.routes import Split, Upstream
from endcap_serving.local.envoy_process import EnvoyProcess
from endcap_serving.local.predictors import find_free_port
from endcap_serving.local.process import end_processes
from endcap_serving.local.serve import serving
from tests.bench._load import Load, attack, capacity, targets

SECONDS = float(os.environ.get("ENDCAP_BENCH_SECONDS", "60"))
ONLY = os.environ.get("ENDCAP_BENCH_ONLY", "")
BODIES, CANDIDATES, LONGEST = 400, 200, 20
NAME = "bench"
GRU: dict[str, Any] = {"name": "gru4rec", "loss": "cross-entropy", "negatives": 256, "batch_size": 64, "max_epochs": 1}
WIDE, VSKNN, SASREC = {**GRU, "width": 224}, {"name": "vsknn"}, {"name": "sasrec", "width": 64, "max_epochs": 1}
BLEND = {"name": "blend", "members": {"gru4rec": {**GRU, "width": 100}, "sasrec": SASREC, "vsknn": VSKNN}}


@dataclass(frozen=True)
class Case:
    """rate: requests a second of the steady load; p90: what it may take, ms. floors: False where it is only stated."""

    name: str
    model: dict[str, Any]
    items: int
    rerank: bool
    rate: int
    p90: float
    floors: bool = True


CASES = [
    Case("rerank 200 of 40,000, gru4rec 100", {**GRU, "width": 100}, 40_000, True, 1200, 7.0),
    Case("rerank 200 of 40,000, gru4rec 224", WIDE, 40_000, True, 200, 25.0),
    Case("rerank 200 of 40,000, vsknn", VSKNN, 40_000, True, 200, 25.0),
    Case("rerank 200 of 40,000, sasrec", SASREC, 40_000, True, 200, 25.0),
    Case("rerank 200 of 40,000, blend", BLEND, 40_000, True, 200, 25.0),
    Case("top 20 of 40,000, gru4rec 100", {**GRU, "width": 100}, 40_000, False, 300, 20.0),
    Case("top 20 of 1,000,000, gru4rec 100", {**GRU, "width": 100}, 1_000_000, False, 20, 200.0, floors=False),
]


def measure() -> list[dict[str, Any]]:
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for number, case in enumerate(CASES):
            if ONLY in case.name:
                results += _measured(case, Path(folder) / str(number))
    return results


def _measured(case: Case, folder: Path) -> list[dict[str, Any]]:
    store = open_store(str(folder / "store"))
    package, size = _packaged(case, store)
    state = {"recommender": NAME, "stable": Target(version="1", package=package), "salt": "0", "changed": 0}
    write_state(Deployment.model_validate(state), store)
    begun = time.monotonic()
    with serving(store, NAME, listener=lambda event: None) as address:
        ready = time.monotonic() - begun
        url = f"{address}/v1/models/{NAME}:predict"
        bodies = _bodies(case)
        answer = httpx.post(url, json=bodies[0], timeout=30)
        answer.raise_for_status()
        file = targets(url, bodies, folder / "targets", {"x-endcap-shopper": "s"})
        attack(file, max(case.rate // 4, 10), 3)
        memory = _memory(store)
        steady = attack(file, case.rate, SECONDS)
        most = capacity(file, case.p90, start=max(case.rate // 2, 10), seconds=SECONDS / 6)
    results = _rows(case, steady, most, ready, memory, size)
    if case is CASES[-1]:
        results += [_several(case, workers, store.fetch(package), bodies, folder) for workers in (2, 4)]
    if case is CASES[0]:
        with _trivial(len(answer.content), folder) as other:
            same = targets(other, bodies, folder / "theirs")
            theirs = capacity(same, case.p90, start=case.rate, seconds=SECONDS / 6)
        how = (
            f"{most:,} a second at p90 under {case.p90:g} ms, a model that does nothing {theirs:,}; same bodies, Envoy"
        )
        share = most / theirs if theirs else 0.0
        results.append(_row(f"{case.name}: share of a trivial model's rate", share, "", 0.5, how=how))
    return results


def _rows(case: Case, steady: Load, most: int, ready: float, memory: int, size: int) -> list[dict[str, Any]]:
    how = f"{case.rate:,} a second for {SECONDS:g} s: p50 {steady.p50:.1f}, p99 {steady.p99:.1f} ms, {steady.codes}"
    allowed = 1.5 * size / 1e6 + 900
    return [
        _row(f"{case.name}: answered at {case.rate:,}/s", steady.success, "", 1.0 if case.floors else None, how=how),
        _row(f"{case.name}: p90", steady.p90, "ms", case.p90 if case.floors else None, lower=True, how=how),
        _row(f"{case.name}: most", most, "requests/s", None, how=f"at p90 under {case.p90:g} ms without an error"),
        _row(f"{case.name}: start to ready", ready, "s", 15.0, lower=True, how="the predictor and Envoy"),
        _row(f"{case.name}: memory", memory / 1e6, "MB", allowed, lower=True, how=f"a package of {size / 1e6:,.0f} MB"),
    ]


def _row(
    name: str, value: float, unit: str, floor: float | None, *, lower: bool = False, how: str = ""
) -> dict[str, Any]:
    return {"name": name, "value": value, "unit": unit, "floor": floor, "lower_is_better": lower, "how": how}


def _packaged(case: Case, store: Store) -> tuple[str, int]:
    """A package of the case's model, and its bytes."""
    ids = [f"p{number:08d}" for number in range(case.items)]
    spec = Recommender.model_validate(
        {
            "apiVersion": "endcap/v2",
            "kind": "Recommender",
            "name": NAME,
            "shop": NAME,
            "model": TypeAdapter(ModelSpec).validate_python(case.model).model_dump(mode="json", by_alias=True),
        }
    )
    model = make(spec.model)
    model.fit(_sessions(4_000, case.items), case.items, Fitting(settings=_found(case.model)))
    with store.publish(f"packages/{NAME}", case.name.replace(" ", "-").replace(",", "")) as draft:
        categories = [f"category {number % 50}" for number in range(case.items)]
        write_package(
            draft.path,
            model=model,
            vocabulary=Vocabulary(ids),
            items=pa.table({"item": ids, "category": categories}),
            recommender=spec,
            lineage={},
        )
        size = sum(file.stat().st_size for file in draft.path.rglob("*") if file.is_file())
    return draft.address, size


def _found(model: dict[str, Any]) -> dict[str, Any]:
    if model["name"] != "blend":
        return {"epochs": 1}
    members = model["members"]
    return {
        "members": {label: _found(member) for label, member in members.items()},
        "weights": dict.fromkeys(members, 1.0),
        "scales": {label: {"kind": "logits", "temperature": 1.0} for label in members},
    }


def _sessions(count: int, n_items: int, seed: int = 1) -> Sessions:
    """Walks of 2 to 20 steps among neighbouring items; every item is met at least once where there are few."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(2, LONGEST + 1, count)
    starts = rng.integers(0, n_items, count)
    walks = [(start + np.cumsum(rng.integers(-3, 6, n))) % n_items for start, n in zip(starts, lengths, strict=True)]
    return Sessions.of([walk.tolist() for walk in walks])


def _bodies(case: Case) -> list[Any]:
    rng = np.random.default_rng(2)
    asked = _sessions(BODIES, case.items, seed=3)
    bodies = []
    for row in range(BODIES):
        session = asked.items[asked.offsets[row] : asked.offsets[row + 1]]
        instance: dict[str, Any] = {"items": [f"p{item:08d}" for item in session.tolist()], "k": 20}
        if case.rerank:
            candidates = rng.choice(case.items, CANDIDATES, replace=False)
            instance |= {"candidates": [f"p{item:08d}" for item in candidates.tolist()], "k": CANDIDATES}
        bodies.append({"instances": [instance]})
    return bodies


def _memory(store: Store) -> int:
    """Proportional set size of the predictors of a store's packages, in bytes: what is shared counts in part."""
    found = 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_text().split("\0")
            if "endcap_serving.predictor" in command and any(
                store.root.removeprefix("file://") in word for word in command
            ):
                rollup = (process / "smaps_rollup").read_text()
                found += 1024 * int(next(line.split()[1] for line in rollup.splitlines() if line.startswith("Pss:")))
        except OSError:
            continue
    if not found:
        raise RuntimeError("the predictor's process was not found")
    return found


def _several(case: Case, workers: int, package: Path, bodies: list[Any], folder: Path) -> dict[str, Any]:
    """What several workers take together, each having answered some requests."""
    port = find_free_port()
    command = [sys.executable, "-m", "endcap_serving.predictor", "--package", str(package), "--model-name", NAME]
    command += ["--version", "1", "--host", "127.0.0.1", "--port", str(port), "--workers", str(workers)]
    url = f"http://127.0.0.1:{port}/v1/models/{NAME}:predict"
    with _process(command, folder / f"{workers}.log"):
        _wait_for(url, bodies[0])
        # A connection each, so that every worker gets some.
        for body in bodies:
            httpx.post(url, json=body, timeout=30).raise_for_status()
        memory = _memory(open_store(str(folder / "store")))
    how = "proportional set size, the process that watches them too"
    return _row(f"{case.name}: memory of {workers} workers", memory / 1e6, "MB", None, lower=True, how=how)


@contextmanager
def _trivial(size: int, folder: Path) -> Iterator[str]:
    """The address of a model that does nothing, behind an Envoy of its own."""
    port = find_free_port()
    command = [sys.executable, "-m", "tests.bench._trivial", str(port), NAME, str(size)]
    with _process(command, folder / "trivial.log"):
        envoy = EnvoyProcess(folder / "gateway", "127.0.0.1", 0, NAME, Split(Upstream("trivial", port)))
        try:
            url = f"{envoy.address}/v1/models/{NAME}:predict"
            _wait_for(url, {"instances": []})
            yield url
        finally:
            end_processes([envoy.process])


@contextmanager
def _process(command: list[str], log: Path) -> Iterator[None]:
    with log.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


def _wait_for(url: str, body: Any) -> None:
    """Until a POST is answered 200. Raises TimeoutError after two minutes."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            if httpx.post(url, json=body, timeout=30).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise TimeoutError(f"{url} does not answer")
