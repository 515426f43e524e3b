"""What is acknowledged is kept once, whatever ends the process or fills the disk."""

from __future__ import annotations

import random
import resource
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.intake.servers import Server, event, events, eventually, ids, run_server


def flood(server: Server, name: str, acknowledged: list[str], sent: list[str], ended: threading.Event) -> None:
    """Batches of 1 to 40 events on a connection of its own, until the server is gone."""
    chance = random.Random(name)
    with httpx.Client(base_url=f"http://127.0.0.1:{server.port}", timeout=5) as client:
        number = 0
        while not ended.is_set():
            names = [f"{name}-{number}-{at}" for at in range(chance.randint(1, 40))]
            number += 1
            sent += names
            try:
                answer = client.post("/v1/events", json=events(names))
            except httpx.HTTPError:
                return
            if answer.status_code == 200:
                acknowledged += names


def test_killed_at_any_moment_it_has_every_acknowledged_event_once(tmp_path: Path) -> None:
    """Small segments, so that kills meet every step: writing, closing, ids, Parquet, the removal."""
    chance = random.Random(7)
    acknowledged: list[str] = []
    sent: list[str] = []
    for life in range(4):
        before = len(acknowledged)
        server = Server(tmp_path, "--segment-age", "0.1s")
        ended = threading.Event()
        threads = [
            threading.Thread(target=flood, args=[server, f"{life}-{number}", acknowledged, sent, ended])
            for number in range(3)
        ]
        for thread in threads:
            thread.start()
        eventually(lambda least=before + 50: len(acknowledged) > least)
        time.sleep(chance.uniform(0, 0.5))
        server.kill()
        ended.set()
        for thread in threads:
            thread.join()
        server.client.close()
    with run_server(tmp_path) as server:
        # What the shop heard nothing of it sends again, and all the rest too.
        known = [server.post("events", events(sent[at : at + 500])).json() for at in range(0, len(sent), 500)]
        assert sum(one["duplicates"] for one in known) >= len(acknowledged) > 100
        assert sum(one["accepted"] + one["duplicates"] for one in known) == len(sent)
    there = ids(server.out)
    assert len(there) == len(set(there))
    assert set(there) == set(sent)
    assert not list(tmp_path.rglob("*.draft"))


def test_asked_to_end_under_load_it_has_sealed_what_it_acknowledged(tmp_path: Path) -> None:
    acknowledged: list[str] = []
    ended = threading.Event()
    with run_server(tmp_path) as server:
        threads = [
            threading.Thread(target=flood, args=[server, str(number), acknowledged, [], ended]) for number in range(3)
        ]
        for thread in threads:
            thread.start()
        eventually(lambda: len(acknowledged) > 500)
        assert server.end() == 0
        ended.set()
        for thread in threads:
            thread.join()
    assert not list((tmp_path / "intake" / "segments").iterdir())
    there = ids(server.out)
    assert len(there) == len(set(there))
    assert set(acknowledged) <= set(there)


def test_a_torn_tail_is_cut_off_and_said(tmp_path: Path) -> None:
    server = Server(tmp_path, "--segment-age", "1h")
    assert server.post("events", events(["a", "b"])).status_code == 200
    assert server.post("events", event("c")).status_code == 200
    server.kill()
    server.client.close()
    (segment,) = (tmp_path / "intake" / "segments").iterdir()
    whole = segment.read_bytes()
    segment.write_bytes(whole[:-9])
    with run_server(tmp_path, "--segment-age", "1h") as server:
        assert server.post("events", events(["a", "b", "c"])).json() == {"accepted": 1, "duplicates": 2}
        assert "a torn tail was cut off" in server.log.read_text()
    assert sorted(ids(server.out)) == ["a", "b", "c"]


def fill_disk(server: Server, most: int = 500) -> list[str]:
    """Send until it is refused for want of space; what was acknowledged."""
    taken: list[str] = []
    for number in range(most):
        names = [f"f{number}-{at}" for at in range(50)]
        answer = server.post("events", events(names))
        if answer.status_code == 503:
            assert answer.json()["code"] == "intake.disk-full"
            assert answer.json()["fields"]
            assert answer.headers["retry-after"] == "2"
            return taken
        assert answer.json() == {"accepted": 50, "duplicates": 0}
        taken += names
    raise AssertionError("it was never full")


def assert_accepts(server: Server) -> None:
    assert eventually(lambda: server.post("events", event("after")).status_code == 200)
    assert server.post("events", event("after")).json() == {"accepted": 0, "duplicates": 1}


def test_a_write_that_the_system_cuts_half_way_is_taken_back(tmp_path: Path) -> None:
    """No file may be larger than 100 kB: a write past it is cut, as on a disk that fills up in the midst of it."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))

    with run_server(tmp_path, "--segment-age", "1h", limit=limit) as server:
        taken = fill_disk(server)
        assert server.client.get("/readyz").json()["code"] == "intake.disk-full"
        assert server.client.get("/healthz").status_code == 200
        # As on a disk that is emptied.
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert_accepts(server)
        assert server.metric("endcap_intake_failed_commits_total") >= 1
    assert ids(server.out) == [*taken, "after"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], capture_output=True)
    if mounted.returncode:
        pytest.skip("may not mount a small file system here")
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


def test_a_full_disk_takes_nothing_loses_nothing_and_goes_on(small_disk: Path) -> None:
    (small_disk / "other").write_bytes(b"x" * 700_000)
    # The log and what is sealed lie elsewhere: they are not what fills it.
    folder = small_disk.parent
    (folder / "intake").symlink_to(small_disk)
    with run_server(folder, "--segment-age", "1h") as server:
        taken = fill_disk(server)
        (small_disk / "other").unlink()
        assert_accepts(server)
    assert sorted(ids(server.out)) == sorted([*taken, "after"])
