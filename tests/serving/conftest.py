"""A small shop, its models as packages in a store, and servers that run for as long as a module's tests."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import numpy as np
import pyarrow as pa
import pytest

from endcap.features.sessions import Sessions
from endcap.features.view import Vocabulary
from endcap.models import Fitting, Model, make
from endcap.registry.package import write_package
from endcap.spec import Recommender
from endcap.store import Store, open_store
from endcap_serving.local.predictors import find_free_port

MODELS = ["popularity", "recent-popularity", "sequential-rules", "vsknn", "gru4rec", "ease"]
OF_CUSTOMERS = ["ease"]
"""Models that are told to remember what a customer had."""
CUSTOMERS = 200
CATEGORIES = ["boots", "sandals", "sneakers"]
N_ITEMS = 300
NOON = 1_767_268_800_000
"""2026-01-01T12:00:00Z in epoch milliseconds."""


@dataclass(frozen=True)
class Shop:
    """A store with a package of each model, and what the packages were made of."""

    store: Store
    ids: list[str]
    fitted: Mapping[str, Model]
    packages: Mapping[str, str]
    """Address by model name."""


def sessions(count: int, seed: int, customers: int = CUSTOMERS) -> Sessions:
    """Walks of 1 to 12 steps among neighbouring items, a minute a step, popular items more often; customers in turn."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 13, count)
    starts = (N_ITEMS * rng.random(count) ** 2).astype(int)
    items = [
        np.cumsum([start, *rng.integers(-4, 6, n - 1)]) % N_ITEMS for start, n in zip(starts, lengths, strict=True)
    ]
    times = [NOON - 60_000 * (1000 - row % 1000) + 60_000 * np.arange(n) for row, n in enumerate(lengths)]
    made = Sessions.of([list(map(int, row)) for row in items], [list(map(int, row)) for row in times])
    return replace(made, customers=(np.arange(count) % customers).astype(np.int32))


def customer(index: int) -> str:
    """The id of a customer."""
    return f"customer {index} ö"


def recommender(model: str) -> Recommender:
    parameters = {"name": model, **({"history": "customer"} if model in OF_CUSTOMERS else {})}
    return Recommender.model_validate(
        {"apiVersion": "endcap/v2", "kind": "Recommender", "name": "shoes", "shop": "demo", "model": parameters}
    )


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return stored_shop(tmp_path_factory.mktemp("shop"), MODELS)


def stored_shop(folder: Path, models: Iterable[str]) -> Shop:
    """A store in `folder` with a package of each of these models."""
    store = open_store(str(folder))
    ids = [f'item "{number}" ü' for number in range(N_ITEMS)]
    items = pa.table({"item": ids, "category": [CATEGORIES[number % 3] for number in range(N_ITEMS)]})
    train = sessions(3000, seed=1)
    fitted, packages = {}, {}
    for name in models:
        spec = recommender(name)
        fitted[name] = make(spec.model)
        fitted[name].fit(train, N_ITEMS, Fitting(seed=1, settings={"epochs": 1}))
        with store.publish("packages/shoes", name) as draft:
            write_package(
                draft.path,
                model=fitted[name],
                vocabulary=Vocabulary(ids),
                items=items,
                recommender=spec,
                customers=pa.array(map(customer, fitted[name].known_customers), pa.string()),
                lineage={},
            )
            packages[name] = draft.address
    return Shop(store, ids, fitted, packages)


@contextmanager
def running(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is ended with the block, by its id."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@pytest.fixture(scope="session")
def predictors_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("predictors") / "log"


@pytest.fixture(scope="session")
def predictors(shop: Shop, predictors_log: Path) -> Iterator[httpx.Client]:
    """One model server with all models, each under its own name."""
    log = predictors_log
    port = find_free_port()
    folders = [f"{name}={shop.store.fetch(address)}" for name, address in shop.packages.items()]
    with running([sys.executable, "-m", "tests.serving.many", str(port), *folders], log) as process:
        client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30)
        with client:
            wait_until_ready(client, process, log)
            yield client


def wait_until_ready(client: httpx.Client, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        try:
            if client.get("/v2/health/ready").status_code == 200:
                return
        except httpx.TransportError:
            assert process.poll() is None, log.read_text()
            time.sleep(0.1)
    raise AssertionError(log.read_text())


def children(pid: int) -> dict[int, str]:
    """Command lines of a process's living children, by id."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
            if int(parent) == pid and state != "Z":
                found[int(stat.parent.name)] = (stat.parent / "cmdline").read_text().replace("\0", " ")
        except (OSError, ValueError):
            continue
    return found


def all_ended(pids: Iterable[int], patience: float = 60.0) -> bool:
    """Whether processes have ended within `patience` seconds; one that nobody waited for yet has."""
    deadline = time.monotonic() + patience
    while running := [pid for pid in pids if _runs(pid)]:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return not running


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
