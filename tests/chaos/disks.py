"""Small file systems that fill up: what cannot be written is refused, nothing half-written stays, and all goes on
when there is space again."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from endcap.deploy.state import read_state
from endcap.deploy.state_changes import set_share
from endcap.errors import StorageError
from endcap.store import open_store
from tests.chaos.attack import MOUNT, Attack, Seen, Stage, wait_until
from tests.chaos.intake_kills import temporary
from tests.chaos.stack import NAME, Shopper, deploy, opened, served, shop_in
from tests.intake.servers import event, events, ids, run_server

KINDS = ("intake", "store", "supervisor full", "supervisor read-only")
FOLLOWS = 30.0
"""Seconds in which what is served follows the desired state, once it can."""


@dataclass(frozen=True)
class Full(Seen):
    """A disk that was full, and had space again. refused: by an error of its own, not another one; lost: of what was
    acknowledged; temporary: files that are left; supervised: the server did not end; served: shoppers were meanwhile;
    goes_on: afterwards all is as if nothing had been."""

    refused: str = ""
    lost: int = 0
    temporary: tuple[str, ...] = ()
    supervised: bool = True
    served: bool = True
    goes_on: bool = True


def attempts(stage: Stage) -> Iterator[Full]:
    for number in stage.numbers:
        kind = KINDS[number % len(KINDS)]
        place = stage.place(f"disk-{number}")
        if kind == "intake":
            yield _intake(stage, number, place)
        elif kind == "store":
            yield _store(stage, number, place)
        else:
            yield _supervisor(stage, number, kind, place)


def _intake(stage: Stage, number: int, place: Path) -> Full:
    chance, disk = stage.chance(number), place / "intake"
    taken: list[str] = []
    with small(disk, "1m"):
        other = disk / "other"
        other.write_bytes(b"x" * chance.randrange(300_000, 900_000))
        with run_server(place, "--segment-age", chance.choice(["1h", "0.2s"])) as server:
            status, code = 200, ""
            for batch in range(2000):
                names = [f"f{batch}-{at}" for at in range(chance.randint(1, 80))]
                answer = server.post("events", events(names))
                status = answer.status_code
                if status != 200:
                    code = answer.json().get("code", "")
                    break
                taken += names
            other.unlink()
            goes_on = wait_until(lambda: server.post("events", event("after")).status_code == 200, 15)
        left = temporary(disk)
        there = ids(server.out)
    lost = len({*taken, "after"} - set(there)) + len(there) - len(set(there))
    refused = "" if (status, code) in ((503, "intake.disk-full"), (200, "")) else f"{status} {code}"
    return Full(number, "intake", refused, lost, left, goes_on=goes_on is not None)


def _store(stage: Stage, number: int, place: Path) -> Full:
    chance, disk = stage.chance(number), place / "store"
    refused = ""
    with small(disk, "2m"):
        store = open_store(str(disk))
        store.write_document("deployments/a", {"text": "before"})
        other = disk / "other"
        other.write_bytes(b"")
        _fill(other, leave=chance.randrange(0, 3) * 4096)
        for attempt in ("artifact", "document"):
            try:
                if attempt == "artifact":
                    with store.publish("things/a", "k") as draft:
                        (draft.path / "file").write_bytes(b"x" * chance.randrange(20_000, 200_000))
                else:
                    store.write_document("deployments/a", {"text": "x" * chance.randrange(20_000, 200_000)})
                refused = refused or f"{attempt}: it was taken by a full disk"
            except StorageError:
                pass
            except Exception as error:
                refused = refused or f"{attempt}: {type(error).__name__}: {error}"
        before = store.read_document("deployments/a")
        other.unlink()
        with store.publish("things/a", "k") as draft:
            (draft.path / "file").write_bytes(b"whole")
        whole = (store.fetch(draft.address, verify=True) / "file").read_bytes() == b"whole"
        return Full(number, "store", refused, int(before != {"text": "before"}), temporary(disk), goes_on=whole)


def _supervisor(stage: Stage, number: int, kind: str, place: Path) -> Full:
    shop = shop_in(place / "store")
    deploy(shop, 0.2)
    work = place / "store" / ".work" / "serving"
    share = round(stage.chance(number).uniform(0.3, 0.9), 3)
    with small(work, "4m"), served(shop, place / "server.log") as stack:
        assert wait_until(lambda: "canary" in stack.roles(), FOLLOWS) is not None
        shopper = Shopper(stack, shop.ids[:3])
        other, folder = work / "other", str(stack.run_folder())
        if kind.endswith("full"):
            _fill(other)
        else:
            # Over itself, since files that are open for writing keep a whole file system writable.
            subprocess.run(["mount", "--bind", folder, folder], check=True)
            subprocess.run(["mount", "-o", "remount,ro,bind", folder], check=True)
        set_share(NAME, share, opened(shop))
        time.sleep(2.0)
        if number // len(KINDS) % 2:
            with contextlib.suppress(ProcessLookupError, KeyError):
                os.kill(stack.roles()["canary"], 9)
            time.sleep(2.0)
        supervised, answered = stack.alive, shopper.ask().status == 200
        if kind.endswith("full"):
            other.unlink()
        else:
            subprocess.run(["umount", "--lazy", folder], check=True)

        def follows() -> bool:
            routed = [each for each in stack.events if each["event"] == "routed"]
            return bool(routed) and routed[-1]["share"] == share and shopper.ask().status == 200

        goes_on = wait_until(follows, FOLLOWS) is not None
        shopper.close()
        kept = read_state(NAME, opened(shop)).canary
        return Full(number, kind, "", int(kept is None or kept.share != share), (), supervised, answered, goes_on)


@contextlib.contextmanager
def small(place: Path, size: str) -> Iterator[None]:
    """A file system of this size at a new folder, in this process's name space."""
    place.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def _fill(file: Path, leave: int = 0) -> None:
    """Write until the disk is full, and give some bytes back."""
    with file.open("ab", buffering=0) as handle:
        for size in (65536, 4096, 512):
            with contextlib.suppress(OSError):
                while True:
                    handle.write(b"x" * size)
        if leave:
            handle.truncate(max(0, handle.tell() - leave))


def judge(seen: Full) -> Iterator[str]:
    if seen.refused:
        yield f"refused by another error than a full disk's: {seen.refused}"
    if seen.lost:
        yield f"{seen.lost} of what was acknowledged is lost, or there twice"
    if seen.temporary:
        yield f"temporary files are left: {', '.join(seen.temporary[:5])}"
    if not seen.supervised:
        yield "the supervisor has ended"
    if not seen.served:
        yield "shoppers were not answered meanwhile"
    if not seen.goes_on:
        yield "it does not go on when there is space again"


ATTACK = Attack(
    "disks", "disks that are full or read-only", attempts, judge, full=16, short=4, limit=480, needs=(MOUNT,)
)
