"""Lists that were broken off are gone on with, here and by workers, and come out the same."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from endcap.store import CHECKPOINT
from tests.batch.conftest import Little
from tests.batch.given import FakeRegistry, bytes_of, kept, made, of, package, rows

SLOW = {"name": "custom", "class": "tests.batch.stand_ins:Slow"}
KILLED = """
import os, signal, sys
from endcap.batch import served_versions
from endcap.store import open_store
from tests.batch.given import FakeRegistry, made, of
served_versions.open_registry = lambda uri, store: FakeRegistry({"1": sys.argv[2]})
def tell(line):
    if "2 of 3 parts" in line:
        os.kill(os.getpid(), signal.SIGKILL)
made(of("killed"), open_store(sys.argv[1]), progress=tell)
"""


def test_a_killed_run_goes_on_after_its_last_whole_part_to_the_same_bytes(
    little: Little, registry: FakeRegistry
) -> None:
    registry.versions["1"] = little.package
    store, lines = little.store, list[str]()
    command = [sys.executable, "-c", KILLED, store.root, little.package]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert store.list("recommendations/killed") == []
    # All that is gone on from has the name of what a store in a bucket keeps beyond the machine: the plan, two parts.
    assert [file.name for file in kept(store, "killed")] == [CHECKPOINT] * 3
    found = made(of("killed"), store, progress=lines.append)
    assert "version 1: continues, 2 of 3 parts are finished" in lines
    assert sum("customers a second" in line for line in lines) == 1
    assert kept(store, "killed") == []

    undisturbed = made(of("undisturbed"), store)
    assert undisturbed.key == found.key
    assert bytes_of(store, undisturbed.address) == bytes_of(store, found.address)
    assert made(of("killed"), store, progress=lines.append) == found


def test_a_part_that_was_cut_short_is_made_anew(little: Little, registry: FakeRegistry) -> None:
    registry.versions["1"] = little.package
    store, lines = little.store, list[str]()

    def stop(line: str) -> None:
        if "2 of 3 parts" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made(of("cut"), store, progress=stop)
    (part,) = [file for file in kept(store, "cut") if file.parent.name == "00001"]
    part.write_bytes(part.read_bytes()[:-7])
    found = made(of("cut"), store, progress=lines.append)
    assert "version 1: continues, 1 of 3 parts are finished" in lines
    assert len(rows(store, found.address)) == 12


@pytest.mark.slow
def test_workers_share_the_parts_and_one_that_is_killed_has_its_part_made_by_another(
    little: Little, registry: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = of("shared", SLOW, classes=[SLOW["class"]], batch={"workers": 2, "partition_size": 4})
    alone = of("alone", SLOW, classes=[SLOW["class"]], batch={"partition_size": 4})
    registry.versions["1"] = package(little.store, spec, little.dataset, "slow")
    expected = made(alone, little.store)
    lines, over = list[str](), threading.Event()

    def kill() -> None:
        """The first process in which the model is asked."""
        while not over.wait(0.01):
            if asked := list(tmp_path.glob("asked-*")):
                os.kill(int(asked[0].name.removeprefix("asked-")), signal.SIGKILL)
                return

    monkeypatch.setenv("ENDCAP_TEST_ASKED", str(tmp_path))
    thread = threading.Thread(target=kill)
    thread.start()
    try:
        found = made(spec, little.store, progress=lines.append)
    finally:
        over.set()
        thread.join()
    assert any("its process died; another makes this part" in line for line in lines), lines
    assert any(line.startswith("2 workers of ") and line.endswith(" cores share 3 parts") for line in lines)
    assert found.key == expected.key
    assert bytes_of(little.store, found.address) == bytes_of(little.store, expected.address)
