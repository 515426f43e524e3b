"""The intake is killed under load, again and again: what it acknowledged is there once, and no draft is left."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests.chaos.attack import Attack, Seen, Stage, wait_until
from tests.intake.servers import Server, events, ids, run_server

CLIENTS = 3
LEAST = 30
"""Acknowledged events before a kill."""
LOAD = 15.0
TEMPORARY = ("*.draft", "*.tmp", ".*.json.*", "*@*@*")
"""How files are named that are not finished."""


@dataclass(frozen=True)
class Killed(Seen):
    """One life of the intake. acknowledged: events in it."""

    acknowledged: int = 0


@dataclass(frozen=True)
class Kept(Seen):
    """What is there when all that was sent was sent once more. there: ids in the Parquet; statuses: of the second
    sending."""

    acknowledged: frozenset[str] = frozenset()
    sent: frozenset[str] = frozenset()
    there: tuple[str, ...] = ()
    accepted_again: int = 0
    statuses: tuple[int, ...] = ()
    temporary: tuple[str, ...] = ()


@dataclass
class Load:
    """What clients have sent, and what was acknowledged."""

    sent: list[str] = field(default_factory=list)
    acknowledged: list[str] = field(default_factory=list)


def flood(server: Server, name: str, load: Load, over: threading.Event) -> None:
    """Batches of 1 to 40 events on a connection of its own, until the server is gone."""
    chance, number = random.Random(name), 0
    with httpx.Client(base_url=f"http://127.0.0.1:{server.port}", timeout=5) as client:
        while not over.is_set():
            names = [f"{name}-{number}-{at}" for at in range(chance.randint(1, 40))]
            number += 1
            load.sent += names
            try:
                answer = client.post("/v1/events", json=events(names))
            except httpx.HTTPError:
                return
            if answer.status_code == 200:
                load.acknowledged += names


def temporary(folder: Path) -> tuple[str, ...]:
    """Files and folders below that are left of unfinished work."""
    return tuple(sorted({str(each.relative_to(folder)) for name in TEMPORARY for each in folder.rglob(name)}))


def attempts(stage: Stage) -> Iterator[Seen]:
    """Kills in one folder: each life takes up what the one before has left. One alone begins in an empty one."""
    place, load = stage.place("intake"), Load()
    for number in stage.numbers:
        chance, before = stage.chance(number), len(load.acknowledged)
        # Small segments, so that kills meet every step: writing, closing, ids, Parquet, the removal.
        server = Server(place, "--segment-age", f"{chance.choice([0.05, 0.1, 0.3])}s")
        over = threading.Event()
        names = [f"{stage.seed}-{number}-{client}" for client in range(CLIENTS)]
        threads = [threading.Thread(target=flood, args=[server, name, load, over]) for name in names]
        for thread in threads:
            thread.start()
        wait_until(lambda least=before + LEAST: len(load.acknowledged) > least, LOAD)
        time.sleep(chance.uniform(0, 0.4))
        server.kill()
        over.set()
        for thread in threads:
            thread.join()
        server.client.close()
        yield Killed(number, "kill", len(load.acknowledged) - before)
    with run_server(place) as server:
        again = [server.post("events", events(load.sent[at : at + 500])) for at in range(0, len(load.sent), 500)]
        accepted = sum(each.json().get("accepted", 0) for each in again if each.status_code == 200)
        statuses = tuple(each.status_code for each in again)
    stage.figures["events acknowledged"] = len(load.acknowledged)
    acknowledged, sent = frozenset(load.acknowledged), frozenset(load.sent)
    yield Kept(-1, "records", acknowledged, sent, tuple(ids(server.out)), accepted, statuses, temporary(place))


def judge(seen: Seen) -> Iterator[str]:
    if isinstance(seen, Killed):
        if seen.acknowledged < LEAST:
            yield f"it took {seen.acknowledged} events in {LOAD:.0f} s"
    elif isinstance(seen, Kept):
        there = set(seen.there)
        if bad := set(seen.statuses) - {200}:
            yield f"sent again, it answered {sorted(bad)}"
        if len(there) < len(seen.there):
            yield f"{len(seen.there) - len(there)} records are there twice"
        if lost := seen.acknowledged - there:
            yield f"{len(lost)} acknowledged records are lost, such as {min(lost)}"
        if seen.accepted_again > len(seen.sent - seen.acknowledged):
            over = seen.accepted_again - len(seen.sent - seen.acknowledged)
            yield f"{over} acknowledged records were taken for new when they were sent again"
        if strange := there - seen.sent:
            yield f"{len(strange)} records are there that nobody sent"
        if seen.temporary:
            yield f"temporary files are left: {', '.join(seen.temporary[:5])}"


ATTACK = Attack("intake-kills", "SIGKILL of the intake under load", attempts, judge, full=90, short=5, limit=600)
