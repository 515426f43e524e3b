"""The event intake: acknowledged events a second, and how long a single one waits for its answer.

Server and generator run on the same cores; every acknowledged event was flushed to the disk before. Ids of an earlier
day (24 arrays of ENDCAP_BENCH_IDS, 200,000 by default) lie in the folder, so that duplicates are looked for as they are
in a shop. Numbers depend on how fast the disk flushes, so that is told too.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from endcap_serving.intake.known_ids import HOUR_MS, ArrayStamp
from endcap_serving.local.predictors import find_free_port

SECONDS = 8.0
BATCH, CONNECTIONS = 100, 8
RATE, SINGLES = 500, 16
PEOPLE, ITEMS = 50_000, 40_000


def measure() -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory(dir="build") as folder:
        earlier = _ids_of_a_day(Path(folder) / "intake")
        flushes = _flushes(Path(folder) / "probe")
        with server(Path(folder)) as port:
            taken, seconds = asyncio.run(_closed_loop(port))
            waits = asyncio.run(_open_loop(port))
            counted = _accepted(port)
    assert counted == taken + len(waits), "an acknowledged event was not counted, or another one was"
    p50, p99 = (float(np.percentile(waits, share)) * 1000 for share in (50, 99))
    median, slowest = (float(np.percentile(flushes, share)) * 1000 for share in (50, 99))
    disk = f"a flush of 2 kB took {median:.1f} ms before (p99 {slowest:.1f} ms); {earlier:,} ids of the day before"
    return [
        {
            "name": f"intake: events acknowledged in batches of {BATCH}",
            "value": taken / seconds,
            "unit": "1/s",
            "floor": 20_000,
            "lower_is_better": False,
            "how": f"{CONNECTIONS} connections for {seconds:.1f} s, one batch at a time each; {disk}",
        },
        {
            "name": f"intake: p99 of single events at {RATE} a second",
            "value": p99,
            "unit": "ms",
            "floor": 50.0,
            "lower_is_better": True,
            "how": f"open loop for {SECONDS:g} s, from when each was due; p50 {p50:.1f} ms; {disk}",
        },
    ]


@contextmanager
def server(folder: Path) -> Iterator[int]:
    """An intake as it is started in a shop, on a free port."""
    port = find_free_port()
    words = ["--folder", str(folder / "intake"), "--out", str(folder / "out"), "--port", str(port)]
    # Segments of 8 MiB, so that sealing goes on beside.
    command = [sys.executable, "-m", "endcap_serving.intake", *words, "--segment-mib", "8", "--reserve-mib", "0"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                if httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200:
                    break
            except httpx.TransportError:
                assert process.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.1)
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


async def _closed_loop(port: int) -> tuple[int, float]:
    """Batches on several connections, as fast as they are answered: how many events, in how many seconds."""
    end = time.perf_counter() + SECONDS
    now = time.time_ns() // 1_000_000

    async def send(number: int) -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        done = 0
        while time.perf_counter() < end:
            body = b",".join(_event(f"b{number}-{done + at}", now) for at in range(BATCH))
            await _ask(reader, writer, b"[" + body + b"]", b'{"accepted":%d,"duplicates":0}' % BATCH)
            done += BATCH
        writer.close()
        return done

    begun = time.perf_counter()
    done = await asyncio.gather(*(send(number) for number in range(CONNECTIONS)))
    return sum(done), time.perf_counter() - begun


async def _open_loop(port: int) -> list[float]:
    """Single events, each sent when it is due whatever became of those before: seconds from then to its answer."""
    waits: list[float] = []
    now = time.time_ns() // 1_000_000
    due: asyncio.Queue[tuple[int, float] | None] = asyncio.Queue()

    async def send() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while (one := await due.get()) is not None:
            await _ask(reader, writer, _event(f"s{one[0]}", now), b'{"accepted":1,"duplicates":0}')
            waits.append(time.perf_counter() - one[1])
        writer.close()

    senders = [asyncio.create_task(send()) for _ in range(SINGLES)]
    begun = time.perf_counter()
    for number in range(int(RATE * SECONDS)):
        at = begun + number / RATE
        await asyncio.sleep(max(at - time.perf_counter(), 0))
        due.put_nowait((number, at))
    for _ in senders:
        due.put_nowait(None)
    await asyncio.gather(*senders)
    return waits


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes, expected: bytes) -> None:
    head = b"POST /v1/events HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    writer.write(head % len(body) + body)
    said = await reader.readuntil(b"\r\n\r\n")
    length = int(said.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    answer = await reader.readexactly(length)
    assert answer == expected, said + answer


def _event(identity: str, now: int) -> bytes:
    number = hash(identity)
    return (
        b'{"id":"%b","item":"p%06d","customer":"c%06d","session":"s%08d","time":%d,"type":"view","surface":"home"}'
        % (identity.encode(), number % ITEMS, number % PEOPLE, number % 10**8, now)
    )


def _accepted(port: int) -> int:
    lines = httpx.get(f"http://127.0.0.1:{port}/metrics").text.splitlines()
    return int(
        float(next(one for one in lines if one.startswith('endcap_intake_accepted_total{kind="events"}')).split()[1])
    )


def _ids_of_a_day(folder: Path) -> int:
    """Write what an intake knows after a day; how many ids."""
    count = int(os.environ.get("ENDCAP_BENCH_IDS", "200000"))
    rng = np.random.default_rng(1)
    (folder / "ids").mkdir(parents=True)
    now = time.time_ns() // 1_000_000
    for hour in range(1, 24):
        stamp = ArrayStamp(now - (24 - hour) * HOUR_MS, hour, hour)
        np.sort(rng.integers(0, 2**64, count, np.uint64)).tofile(folder / "ids" / stamp.name)
    (folder / "next-sequence").write_text("24")
    return 23 * count


def _flushes(file: Path) -> list[float]:
    """Seconds that this disk takes to flush 2 kB."""
    found = []
    with file.open("wb", buffering=0) as handle:
        for _ in range(200):
            handle.write(b"x" * 2048)
            begun = time.perf_counter()
            os.fdatasync(handle.fileno())
            found.append(time.perf_counter() - begun)
    return found
