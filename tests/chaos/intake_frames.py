"""Segments of a killed intake are damaged at random places: it starts, and what was whole before the place is there.

What it cannot read it must not throw away: the damaged bytes are somewhere in its folder afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from endcap_serving.intake.segments import MARKER
from tests.chaos.attack import Attack, Seen, Stage
from tests.intake.servers import Server, event, events, ids, run_server

BATCHES, EACH = 6, 4


@dataclass(frozen=True)
class Damaged(Seen):
    """A damaged segment. whole: ids of what lies before the damage, lost: of those, what is not there; kept: whether
    the damaged bytes are; took: the status of an event afterwards."""

    started: bool = True
    lost: int = 0
    twice: int = 0
    kept: bool = True
    took: int = 200


def attempts(stage: Stage) -> Iterator[Damaged]:
    for number in stage.numbers:
        yield _one(stage, number)


def _one(stage: Stage, number: int) -> Damaged:
    chance, place = stage.chance(number), stage.place(f"frames-{number}")
    names = [[f"{number}-{batch}-{at}" for at in range(EACH)] for batch in range(BATCHES)]
    server = Server(place, "--segment-age", "1h")
    for batch in names:
        assert server.post("events", events(batch)).status_code == 200
    server.kill()
    server.client.close()
    (segment,) = (place / "intake" / "segments").iterdir()
    whole = segment.read_bytes()
    begins = [at for at in range(len(whole)) if whole.startswith(MARKER, at)]
    kind = chance.choice(["a turned bit", "a cut tail", "bytes behind the end", "a stretch of zeros"])
    damaged, frame = _damaged(whole, begins, kind, chance.randrange(begins[0], len(whole)), chance.randbytes(64))
    segment.write_bytes(damaged)
    cut = damaged[begins[frame] :] if frame < len(begins) else damaged[len(whole) :]
    try:
        with run_server(place, "--segment-age", "1h") as server:
            took = server.post("events", event("after")).status_code
    except AssertionError:
        return Damaged(number, kind, started=False)
    there = ids(server.out)
    lost = {name for batch in names[:frame] for name in batch} - set(there)
    return Damaged(
        number, kind, True, len(lost), len(there) - len(set(there)), kind != "a turned bit" or _kept(place, cut), took
    )


def _damaged(whole: bytes, begins: list[int], kind: str, at: int, noise: bytes) -> tuple[bytes, int]:
    """The segment's bytes now, and the number of the first frame that is not whole."""
    frame = sum(begin <= at for begin in begins) - 1
    if kind == "a cut tail":
        return whole[:at], frame
    if kind == "bytes behind the end":
        return whole + noise, len(begins)
    if kind == "a stretch of zeros":
        return whole[:at] + bytes(len(whole) - at), frame
    return whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :], frame


def _kept(place: Path, cut: bytes) -> bool:
    """Whether the bytes of the damaged frame, up to the next one, are in any file."""
    following = cut.find(MARKER, 1)
    frame = cut if following < 0 else cut[:following]
    return any(frame[8:] in file.read_bytes() for file in place.rglob("*") if file.is_file())


def judge(seen: Damaged) -> Iterator[str]:
    if not seen.started:
        yield "the intake does not start"
    if seen.lost:
        yield f"{seen.lost} records that lie before the damage are lost"
    if seen.twice:
        yield f"{seen.twice} records are there twice"
    if not seen.kept:
        yield "the damaged bytes were thrown away: they cannot be mended any more"
    if seen.took != 200:
        yield f"it answers {seen.took} afterwards"


ATTACK = Attack(
    "intake-frames", "segments damaged between two lives of the intake", attempts, judge, full=24, short=3, limit=240
)
