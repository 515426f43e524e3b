"""Folders of events with what is no file of events in them: ingest ends, in a bounded time and memory, and says why."""

from __future__ import annotations

import gzip
import os
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from endcap.events import ingest
from endcap.store import open_store
from tests.chaos.attack import Attack, Seen, Stage
from tests.chaos.bodies import VALUES, bent
from tests.chaos.child import call
from tests.chaos.intake_kills import temporary
from tests.events.shops import HEADER, ROWS, make_shop, write_csv

LIMIT, MEMORY = 20.0, 4 << 30
KINDS = (
    "a FIFO",
    "a link out",
    "a link to nowhere",
    "a loop",
    "bent",
    "bytes",
    "compressed",
    "wide",
    "ids",
    "a device",
)


@dataclass(frozen=True)
class Ingested(Seen):
    """A folder that was taken in. how: see `Outcome`."""

    how: str = "refused"
    said: str = ""
    temporary: tuple[str, ...] = ()


def attempts(stage: Stage) -> Iterator[Ingested]:
    for number in stage.numbers:
        kind, chance, place = KINDS[number % len(KINDS)], stage.chance(number), stage.place(f"source-{number}")
        events = place / "events"
        write_csv(events / "day-1.csv", ROWS * 20)
        suffix = _place(kind, events, chance)
        shop = make_shop(str(events / f"*{suffix}") if chance.random() < 0.5 else str(events))
        said = call(lambda place=place, shop=shop: ingest(shop, open_store(str(place / "store"))), LIMIT, MEMORY)
        yield Ingested(number, kind, said.how, str(said.value)[:500], temporary(place))
        shutil.rmtree(place)


def _place(kind: str, events: Path, chance: random.Random) -> str:
    """Put something into the folder; the ending of its name."""
    suffix = chance.choice([".csv", ".jsonl", ".parquet"]) if kind != "compressed" else ".csv.gz"
    file = events / f"day-2{suffix}"
    text = "".join(f"{line}\n" for line in [HEADER, *ROWS * 20]).encode()
    if kind == "a FIFO":
        os.mkfifo(file)
    elif kind == "a device":
        file.symlink_to(chance.choice(["/dev/zero", "/dev/null", "/dev/full"]))
    elif kind == "a link out":
        file.symlink_to(chance.choice(["/etc/passwd", "/proc/self/mem", "/proc/kmsg", "/etc"]))
    elif kind == "a link to nowhere":
        file.symlink_to("/nowhere/at/all")
    elif kind == "a loop":
        file.symlink_to(chance.choice([file.name, ".", ".."]))
    elif kind == "bent":
        file.write_bytes(bent(text, chance))
    elif kind == "bytes":
        file.write_bytes(
            chance.choice(
                [b"PAR1" + chance.randbytes(500) + b"PAR1", chance.randbytes(3000), b"", b"\0" * 5000, b"[" * 50_000]
            )
        )
    elif kind == "compressed":
        whole = gzip.compress(chance.choice([text, HEADER.encode() + b"\n" + b"," * 20_000_000, b"\0" * 50_000_000]))
        file.write_bytes(whole[: len(whole) - chance.choice([0, 0, 9])])
    elif kind == "wide":
        file.write_bytes(HEADER.encode() + b"".join(b",c%d" % n for n in range(chance.choice([3000, 20_000]))) + b"\n")
    else:
        ids = [str(value) for value in VALUES if not isinstance(value, (list, dict))]
        rows = [f'"{chance.choice(ids)}",c,"{chance.choice(ids)}",2024-03-01T10:00:00Z,view' for _ in range(50)]
        file.write_text("".join(f"{line}\n" for line in [HEADER, *rows]))
    return suffix


def judge(seen: Ingested) -> Iterator[str]:
    if seen.how not in ("returned", "refused"):
        yield f"it {seen.how}: {seen.said}"
    if seen.temporary:
        yield f"temporary files are left: {', '.join(seen.temporary[:5])}"


ATTACK = Attack(
    "sources", "folders of events with what is no file of events", attempts, judge, full=120, short=20, limit=300
)
