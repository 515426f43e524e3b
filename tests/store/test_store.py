"""What every store promises."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from endcap.errors import IntegrityError, NotFoundError, StorageError, UserError
from endcap.store import Store, fingerprint, open_store


def put(store: Store, key: str, text: str = "hello") -> str:
    with store.publish("things/a", key) as draft:
        (draft.path / "sub").mkdir()
        (draft.path / "sub" / "file.txt").write_text(text)
        draft.facts["length"] = len(text)
    return draft.address


def test_an_artifact_is_found_by_its_key_with_its_files_and_facts(store: Store) -> None:
    assert store.find("things/a", "k1") is None
    address = put(store, "k1")
    assert store.find("things/a", "k1") == address
    assert (store.fetch(address, verify=True) / "sub" / "file.txt").read_text() == "hello"
    assert store.manifest(address)["facts"] == {"length": 5}
    assert store.list("things/a") == [address]


def test_nothing_appears_when_the_writer_fails(store: Store) -> None:
    with pytest.raises(ZeroDivisionError), store.publish("things/a", "k1") as draft:
        (draft.path / "half").write_text("half")
        raise ZeroDivisionError
    assert store.find("things/a", "k1") is None
    assert store.list("things/a") == []


def test_the_first_of_two_writers_wins(store: Store) -> None:
    with store.publish("things/a", "k1") as slow:
        (slow.path / "file").write_text("slow")
        quick = put(store, "k1", "quick")
    assert (store.fetch(quick) / "sub" / "file.txt").read_text() == "quick"


def test_a_killed_writer_leaves_nothing_whole_and_is_swept(store: Store, tmp_path: Path) -> None:
    writer = (
        "import os, signal, sys; from endcap.store import open_store\n"
        "with open_store(sys.argv[1]).publish('things/a', 'k1') as draft:\n"
        "    (draft.path / 'half').write_text('half'); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run([sys.executable, "-c", writer, store.root], check=False)
    assert killed.returncode == -signal.SIGKILL
    drafts = tmp_path / "store" / ".drafts"
    assert store.find("things/a", "k1") is None
    assert len(list(drafts.iterdir())) == 1
    put(store, "k1")
    assert list(drafts.iterdir()) == []


def test_drafts_of_a_host_with_a_longer_name_are_left_alone(store: Store, tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    theirs = tmp_path / "store" / ".drafts" / f"{socket.gethostname()}-{ended.pid}-x@{ended.pid}@0"
    ours = theirs.with_name(f"{socket.gethostname()}@{ended.pid}@0")
    for draft in (theirs, ours):
        draft.mkdir(parents=True)
    put(store, "k1")
    assert list(theirs.parent.iterdir()) == [theirs]


def test_damage_is_noticed(store: Store) -> None:
    address = put(store, "k1")
    file = store.fetch(address) / "sub" / "file.txt"
    file.write_text("jello")
    store.fetch(address)
    with pytest.raises(IntegrityError, match="changed after it was written"):
        store.fetch(address, verify=True)
    file.write_text("hell")
    with pytest.raises(IntegrityError, match="missing or cut short"):
        store.fetch(address)


def test_what_is_not_there_is_said_to_be_missing(store: Store, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="nothing is stored"):
        store.manifest(f"{store.root}/things/a/none")
    with pytest.raises(NotFoundError, match="does not lie in this store"):
        store.fetch(f"file://{tmp_path}/elsewhere")
    with pytest.raises(UserError, match="scheme 'gs' is not known"):
        open_store("gs://bucket")


def test_documents_are_replaced_whole(store: Store) -> None:
    assert store.read_document("deployments/shop") is None
    store.write_document("deployments/shop", {"share": 0.1})
    store.write_document("deployments/shop", {"share": 0.3})
    assert store.read_document("deployments/shop") == {"share": 0.3}


def test_a_workspace_outlives_a_failure_and_not_its_work(store: Store) -> None:
    with pytest.raises(ZeroDivisionError), store.workspace("trained/a", "k") as work:
        (work / "checkpoint").write_text("1")
        raise ZeroDivisionError
    with open_store(store.root).workspace("trained/a", "k") as work:
        assert (work / "checkpoint").read_text() == "1"
    assert not work.exists()


def test_a_workspace_is_one_writers_at_a_time(store: Store) -> None:
    told, seen = threading.Event(), []

    def second() -> None:
        with store.workspace("trained/a", "k", lambda line: told.set()) as work:
            seen.extend(work.iterdir())

    waiting = threading.Thread(target=second)
    with store.workspace("trained/a", "k") as work:
        (work / "checkpoint").write_text("1")
        with store.workspace("trained/a", "another"):
            waiting.start()
            assert told.wait(10)
        assert (work / "checkpoint").exists()
    waiting.join()
    assert seen == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_said_and_publishes_nothing(store: Store) -> None:
    with pytest.raises(StorageError, match="No space left"), store.publish("things/a", "k1") as draft:
        (draft.path / "file").symlink_to("/dev/full")
        (draft.path / "file").write_text("x" * 100_000)
    assert store.find("things/a", "k1") is None


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="cannot write"):
        open_store(str(tmp_path / "file" / "store"))


def test_fingerprints_depend_on_content_and_not_on_order() -> None:
    assert fingerprint({"a": 1, "b": [1, 2]}) == fingerprint(json.loads('{"b": [1, 2], "a": 1}'))
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})
    assert fingerprint("ab", "c") != fingerprint("a", "bc")
