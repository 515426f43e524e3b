"""A kill, a full disk, a read-only disk: nothing half-written is taken for whole, and the next run goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from endcap.errors import StorageError
from endcap.events import ingest
from endcap.spec.shop import Shop
from endcap.store import Store, open_store
from tests.events.shops import ROWS, STORED, make_shop, stored, write_csv
from tests.refusals import refused

# Ingests the shop of argv[1] into the store of argv[2] and stands still where argv[3] is about to be done, the first
# time or, where argv[4] is 1, the second.
RUN = """
import sys, time
from pathlib import Path
import endcap.events.write_events, endcap.events.days, endcap.store.folder
from endcap.events import ingest
from endcap.spec.shop import Shop
from endcap.store import open_store

passes = int(sys.argv[4])

def stand(*arguments, **more):
    global passes
    if passes:
        passes -= 1
        return done(*arguments, **more)
    print("here", flush=True)
    time.sleep(60)

endcap.events.days.BUDGET = 1
module, _, name = sys.argv[3].rpartition(".")
if module:
    done = getattr(sys.modules[module], name)
    setattr(sys.modules[module], name, stand)
print(ingest(Shop.model_validate_json(Path(sys.argv[1]).read_text()), open_store(sys.argv[2])), flush=True)
"""


def start(
    shop: Shop, folder: Path, standing_at: str = "", command: tuple[str, ...] = (), passes: int = 0
) -> subprocess.Popen[str]:
    spec = folder / "shop.json"
    spec.write_text(shop.model_dump_json())
    arguments = [*command, sys.executable, "-c", RUN, str(spec), str(folder / "store"), standing_at, str(passes)]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize(
    "standing_at",
    [
        "endcap.events.unit_reading.collect_days",
        "endcap.store.folder.write_durably",
        "endcap.store.folder.sync_folder",
    ],
)
def test_killed_in_the_middle_the_next_run_goes_on(tmp_path: Path, standing_at: str) -> None:
    shop = make_shop(write_csv(tmp_path / "log.csv", ROWS * 100))
    # The store notes its place before it writes the first artifact, and the unit comes before the snapshot.
    process = start(shop, tmp_path, standing_at, passes=2 * (standing_at == "endcap.store.folder.sync_folder"))
    assert process.stdout is not None
    assert process.stdout.readline() == "here\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    store = open_store(str(tmp_path / "store"))
    whole = store.list("snapshots/test")
    # Only the kill after the move into place leaves a snapshot, and that one is whole.
    assert len(whole) == (standing_at == "endcap.store.folder.sync_folder")
    address = ingest(shop, store)
    assert whole in ([], [address])
    assert stored(store, address) == STORED * 100
    store.fetch(address, verify=True)
    left = {path.name for path in (tmp_path / "store").rglob("*") if "staging" in path.parts}
    assert left == set()


def test_two_runs_of_the_same_input_at_once_make_one_snapshot(tmp_path: Path, store: Store) -> None:
    shop = make_shop(write_csv(tmp_path / "log.csv", ROWS))
    addresses: list[str] = []
    threads = [threading.Thread(target=lambda: addresses.append(ingest(shop, store))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert addresses == store.list("snapshots/test") * 4


def small_disk(folder: Path, options: str) -> tuple[str, ...]:
    """A command that runs another with a small disk of its own mounted on `folder`, where this system allows that."""
    mount = (
        "unshare",
        "--user",
        "--map-root-user",
        "--mount",
        "sh",
        "-c",
        f'mount -t tmpfs -o {options} tmpfs "$0" && exec "$@"',
        str(folder),
    )
    if subprocess.run([*mount, "true"], capture_output=True).returncode:
        pytest.skip("this system does not let a user mount a file system of their own")
    return mount


@pytest.mark.parametrize(
    ("options", "said"), [("size=300k", "No space left on device"), ("ro", "Read-only file system")]
)
def test_a_full_or_read_only_disk(tmp_path: Path, options: str, said: str) -> None:
    rows = [f"s{at},c,{os.urandom(30).hex()},2024-03-01,view" for at in range(20_000)]
    shop = make_shop(write_csv(tmp_path / "log.csv", rows))
    (tmp_path / "store").mkdir()
    process = start(shop, tmp_path, command=small_disk(tmp_path / "store", options))
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    last = errors.strip().splitlines()[-1]
    assert last.startswith("endcap.errors.StorageError: cannot write")
    assert said in last


def test_a_full_disk_while_the_engine_spills(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    import duckdb

    def full(*arguments: Any) -> None:
        raise duckdb.IOException('Could not write file "spill": No space left on device')

    monkeypatch.setattr("endcap.events.unit_reading.drop_duplicates", full)
    log = write_csv(tmp_path / "log.csv", ROWS)
    with refused(StorageError, "events.cannot-spill") as stopped:
        ingest(make_shop(log, events={"drop_duplicates": True}), store)
    assert stopped.value.fields["reason"].endswith("No space left on device")
    assert Path(stopped.value.fields["path"]).is_relative_to(tmp_path / "store")
    assert store.list("snapshots/test") == []


def test_a_lost_snapshot_is_made_again(tmp_path: Path, store: Store) -> None:
    shop = make_shop(write_csv(tmp_path / "log.csv", ROWS))
    address = ingest(shop, store)
    (store.fetch(address) / "manifest.json").unlink()
    for file in sorted(Path(address.removeprefix("file://")).rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    assert ingest(shop, store) == address
    assert json.loads((store.fetch(address) / "manifest.json").read_text())["facts"]["events"] == 4
