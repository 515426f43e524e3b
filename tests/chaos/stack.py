"""What a shop serves with, as its user starts it: `endcap serve` on a small shop, with all its processes.

Each is known by its role: `supervisor` (which has the list server in it), `stable`, `canary`, `envoy`, `intake`.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

import httpx

from endcap.deploy.gateway_settings import GatewaySettings
from endcap.deploy.state import CanaryTarget, Deployment, Target, make_salt, write_state
from endcap.store import Store, open_store
from tests.chaos.processes import command_line, descendants, end_tree
from tests.serving.conftest import Shop, stored_shop

NAME = "shoes"
T = TypeVar("T")
STABLE, CANARY = "sequential-rules", "ease"
VERSIONS = {"1": STABLE, "2": CANARY}
ENDCAP = [sys.executable, "-c", "from endcap.cli.main import main; main()"]
STARTS = 120.0
"""Seconds that all may take to answer."""
_PORT = re.compile(r"--port (\d+)")


def shop_in(folder: Path) -> Shop:
    """A small shop's store with two versions' packages."""
    return stored_shop(folder, list(VERSIONS.values()))


def deploy(shop: Shop, share: float = 0.0, store: Store | None = None) -> None:
    """Version 1 for all; with a share, version 2 as the canary."""
    canary = CanaryTarget(version="2", package=shop.packages[CANARY], share=share) if share else None
    state = Deployment(
        recommender=NAME,
        stable=Target(version="1", package=shop.packages[STABLE]),
        canary=canary,
        salt=make_salt(NAME, "2"),
        terms=GatewaySettings(popular=tuple(shop.ids[:20])),
        changed=datetime.now(UTC),
    )
    write_state(state, store or shop.store)


@dataclass
class Stack:
    """A running server: see the module."""

    address: str
    process: subprocess.Popen[str]
    store: Path
    events: list[dict[str, Any]] = field(default_factory=list)

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def roles(self) -> dict[str, int]:
        """The ids of the processes that run, by role."""
        named = {"supervisor": self.process.pid} if self.alive else {}
        for pid in descendants(self.process.pid):
            words = command_line(pid)
            if variant := re.search(r"--variant (\w+)", words):
                named.setdefault(variant[1], pid)
            elif "endcap_serving.intake" in words:
                named.setdefault("intake", pid)
            elif "bootstrap.json" in words:
                named.setdefault("envoy", pid)
        return named

    def ports(self) -> dict[str, int]:
        """Where each listens on loopback, the list server as `list`."""
        lines = {role: command_line(pid) for role, pid in self.roles().items()}
        known = {role: int(port[1]) for role, line in lines.items() if (port := _PORT.search(line))}
        return {key: port for key, port in known.items() if key != "supervisor"} | {
            "gateway": self.port,
            "list": self._list_port(),
        }

    def run_folder(self) -> Path:
        """Where the newest run keeps its logs and the gateway's files."""
        return max((self.store / ".work" / "serving" / NAME).iterdir(), key=lambda folder: folder.name)

    def _list_port(self) -> int:
        bootstrap = json.loads((self.run_folder() / "gateway" / "bootstrap.json").read_text())
        clusters = {each["name"]: each for each in bootstrap["static_resources"]["clusters"]}
        ports = re.findall(r'"port_value": (\d+)', json.dumps(clusters["fallback"]))
        return int(ports[0])


@contextlib.contextmanager
def served(shop: Shop, log: Path, options: Sequence[str] = (), **environment: str) -> Iterator[Stack]:
    """`endcap serve` for the length of the block; ended by its id, with all that it started."""
    command = [*ENDCAP, "serve", NAME, "--store", shop.store.root, "--port", "0", "--json", *options]
    clean = {name: value for name, value in os.environ.items() if name != "ENDCAP_ONLINE"}
    with log.open("w") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=clean | environment)
    events: list[dict[str, Any]] = []
    reader = threading.Thread(target=_read, args=[process, events], daemon=True)
    reader.start()
    try:
        deadline = time.monotonic() + STARTS
        while not (said := [event for event in events if event["event"] == "served"]):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the server did not start: {log.read_text()}\n{events}")
            time.sleep(0.05)
        yield Stack(said[0]["address"], process, Path(shop.store.root.removeprefix("file://")), events)
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            end_tree(process.pid)
            process.wait()


def _read(process: subprocess.Popen[str], events: list[dict[str, Any]]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        with contextlib.suppress(ValueError):
            events.append(json.loads(line))


@dataclass(frozen=True)
class Ranked:
    """An ordinary question's answer. variant: who answered; right: with the items that are right; status 0: nobody."""

    status: int
    variant: str
    right: bool
    seconds: float


class Shopper:
    """Asks an ordinary question again and again, and knows the answer from before the attack."""

    def __init__(self, stack: Stack, items: list[str], key: str = "") -> None:
        """key: of the access policy, where there is one."""
        self._url = f"{stack.address}/v1/models/{NAME}:predict"
        self._body = {"instances": [{"items": items, "k": 10}]}
        self._client = httpx.Client(timeout=20, headers={"x-endcap-key": key} if key else {})
        self._items = [each["item"] for each in self._post().json()["predictions"][0]["items"]]

    def ask(self) -> Ranked:
        begun = time.monotonic()
        try:
            answer = self._post()
        except httpx.HTTPError:
            return Ranked(0, "", False, time.monotonic() - begun)
        seconds = time.monotonic() - begun
        if answer.status_code != 200:
            return Ranked(answer.status_code, "", False, seconds)
        (ranking,) = answer.json()["predictions"]
        right = [each["item"] for each in ranking["items"]] == self._items
        return Ranked(200, ranking["variant"], right or ranking["variant"] != "stable", seconds)

    def _post(self) -> httpx.Response:
        return self._client.post(self._url, json=self._body)

    def close(self) -> None:
        self._client.close()


class Repeated(Generic[T]):
    """What is done again and again beside an attack, in a thread of its own, until the block ends. results: of each."""

    def __init__(self, do: Callable[[], T], pause: float) -> None:
        """pause: seconds before each."""
        self._do, self._pause = do, pause
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.results: list[T] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(self._pause):
            self.results.append(self._do())


class Beside(Repeated[Ranked]):
    """A shopper who asks beside an attack."""

    def __init__(self, shopper: Shopper, pause: float = 0.05) -> None:
        super().__init__(shopper.ask, pause)

    @property
    def answers(self) -> list[Ranked]:
        return self.results


def opened(shop: Shop) -> Store:
    """The shop's store, as somebody else opens it."""
    return open_store(shop.store.root)


def troubles_of(statuses: Iterable[tuple[int, int]], wrong: int, listed: float, most: float) -> Iterator[str]:
    """What ordinary requests met beside an attack that they should not.

    statuses: how many of each; wrong: of answers with other items; listed: the share that the list answered, of which
    `most` is allowed.
    """
    if odd := {status: count for status, count in statuses if status != 200}:
        yield f"ordinary requests met {odd}"
    if wrong:
        yield f"{wrong} ordinary requests were answered with other items than before"
    if listed > most:
        yield f"the list answered {listed:.1%} of the ordinary requests"
