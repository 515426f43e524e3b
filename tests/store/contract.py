"""What every store promises: the suite of all of them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

import pytest

from endcap.errors import IntegrityError, NotFoundError, StorageError, TransientError, UserError
from endcap.store import CHECKPOINT, Store, digest_manifest, locks, open_store, stamp_document, uses
from endcap.store.base import Json
from endcap.store.staging import open_staged_files
from tests.refusals import refused


class Place(Protocol):
    """Where a store lies."""

    def elsewhere(self) -> Store:
        """The same store as another machine opens it."""

    def damage(self, address: str, name: str, content: bytes) -> None:
        """Put other bytes where the store keeps a file of an artifact."""

    def copy(self) -> Place:
        """All that lies here once more, at another place."""

    def remove(self, name: str = "") -> None:
        """Take away all that lies here, or one file."""

    def left(self) -> set[str]:
        """Paths of all that lies in the store, beside artifacts and documents."""


def put(store: Store, key: str, text: str = "hello") -> str:
    with store.publish("things/a", key) as draft:
        (draft.path / "sub").mkdir()
        (draft.path / "sub" / "file.txt").write_text(text)
        draft.facts["length"] = len(text)
    return draft.address


class StoreContract:
    """For subclasses with a fixture `place`."""

    @pytest.fixture
    def store(self, place: Place) -> Store:
        return place.elsewhere()

    def test_an_artifact_is_found_by_its_key_with_its_files_and_facts(self, store: Store, place: Place) -> None:
        assert store.find("things/a", "k1") is None
        address = put(store, "k1")
        assert address == f"{store.root}/things/a/k1"
        for seen in (store, place.elsewhere()):
            assert seen.find("things/a", "k1") == address
            assert (seen.fetch(address, verify=True) / "sub" / "file.txt").read_text() == "hello"
            assert seen.manifest(address)["facts"] == {"length": 5}
            assert seen.list("things/a") == [address]
        assert place.left() == set()

    def test_empty_files_and_odd_names_are_kept(self, store: Store, place: Place) -> None:
        names = {"empty", "day=2026-03-01/part 1.parquet", "ü+%&?#.txt", "a/b/c/d"}
        with store.publish("things/a", "k1") as draft:
            for name in names:
                (draft.path / name).parent.mkdir(parents=True, exist_ok=True)
                (draft.path / name).write_text("" if name == "empty" else name)
        folder = place.elsewhere().fetch(draft.address)
        assert {name: (folder / name).read_text() for name in names} == {n: "" if n == "empty" else n for n in names}

    def test_nothing_appears_when_the_writer_fails(self, store: Store, place: Place) -> None:
        with pytest.raises(ZeroDivisionError), store.publish("things/a", "k1") as draft:
            (draft.path / "half").write_text("half")
            raise ZeroDivisionError
        assert store.find("things/a", "k1") is None
        assert store.list("things/a") == []
        assert place.left() == set()

    def test_files_that_other_machines_sent_are_published_unread(self, store: Store, place: Place) -> None:
        with store.publish("things/a", "k1") as draft:
            others = open_staged_files(draft.share())
            others.write("parts/1", lambda file: file.write_text("half"))
            described = others.write("parts/1", lambda file: file.write_text("whole"))
            others.rename("parts/1", "sub/large")
            (draft.path / "small").write_text("small")
            # What it says of the file stays, for nobody reads it here.
            draft.sent["sub/large"] = described
        seen = place.elsewhere()
        assert seen.manifest(draft.address)["files"]["sub/large"] == described
        for reader in (store, seen):
            folder = reader.fetch(draft.address, verify=True)
            assert {name: (folder / name).read_text() for name in ("small", "sub/large")} == {
                "small": "small",
                "sub/large": "whole",
            }
        assert place.left() == set()

    def test_what_other_machines_sent_goes_with_a_writer_that_fails_or_is_late(
        self, store: Store, place: Place
    ) -> None:
        with pytest.raises(ZeroDivisionError), store.publish("things/a", "k1") as draft:
            open_staged_files(draft.share()).write("large", lambda file: file.write_text("half"))
            raise ZeroDivisionError
        assert place.left() == set()
        with store.publish("things/a", "k1") as late:
            others = open_staged_files(late.share())
            late.sent["large"] = others.write("large", lambda file: file.write_text("late"))
            others.write("part", lambda file: file.write_text("left"))
            put(place.elsewhere(), "k1")
        assert sorted(store.manifest(late.address)["files"]) == ["sub/file.txt"]
        assert place.left() == set()

    def test_the_first_of_two_writers_wins(self, store: Store, place: Place) -> None:
        with store.publish("things/a", "k1") as slow:
            (slow.path / "file").write_text("slow")
            quick = put(place.elsewhere(), "k1", "quick")
        for seen in (store, place.elsewhere()):
            folder = seen.fetch(quick, verify=True)
            assert (folder / "sub" / "file.txt").read_text() == "quick"
            assert not (folder / "file").exists()
        assert place.left() == set()

    def test_artifacts_are_listed_oldest_first(self, store: Store) -> None:
        keys = ["k2", "k9", "k1", "k5"]
        assert [put(store, key) for key in keys] == store.list("things/a")
        assert store.list("things") == []
        assert (store.list_kinds("things"), store.list_kinds("none")) == (["things/a"], [])

    def test_what_must_not_be_kept_is_erased_whoever_uses_it(self, store: Store, place: Place) -> None:
        kept, erased = put(store, "kept"), put(store, "erased")
        elsewhere = place.elsewhere()
        copy = elsewhere.fetch(erased)
        assert [elsewhere.erase(address) for address in (erased, erased)] == [True, False]
        assert not copy.exists()
        assert store.find("things/a", "erased") is None
        assert store.list("things/a") == [kept]
        with refused(NotFoundError, "store.not-found"):
            store.fetch(erased)
        assert place.left() == set()

    def test_only_what_nobody_has_used_is_removed(
        self, store: Store, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        kept = [put(store, key) for key in ("found", "fetched", "published")]
        removed, elsewhere = put(store, "removed"), place.elsewhere()
        assert {use.address: (use.bytes >= 5, use.is_whole) for use in store.list_uses("things/a")} == dict.fromkeys(
            [*kept, removed], (True, True)
        )
        with pytest.raises(ValueError, match="may be in use"):
            store.remove(removed, unused_since=datetime.now(UTC))
        for name in ("NOTED_EVERY", "LEAST_UNUSED"):
            monkeypatch.setattr(uses, name, timedelta(0))
        time.sleep(1.1)  # an S3 server tells whole seconds
        moment = datetime.now(UTC).replace(microsecond=0)
        elsewhere.find("things/a", "found")
        elsewhere.fetch(kept[1])
        put(elsewhere, "published", "later")
        elsewhere.manifest(removed)  # to look at it is no use
        assert [store.remove(address, unused_since=moment) for address in [*kept, removed, removed]] == [
            *(False, False, False),
            *(True, False),
        ]
        assert store.find("things/a", "removed") is None
        assert sorted(store.list("things/a")) == sorted(kept)
        assert [use.address for use in place.elsewhere().list_uses("things/a")] == sorted(kept)
        assert place.left() == set()
        assert (place.elsewhere().fetch(put(store, "removed", "again")) / "sub" / "file.txt").read_text() == "again"

    def test_a_killed_writer_leaves_nothing_whole_and_is_swept(self, store: Store, place: Place) -> None:
        writer = (
            "import os, signal, sys; from endcap.store import open_store\n"
            "with open_store(sys.argv[1]).publish('things/a', 'k1') as draft:\n"
            "    (draft.path / 'half').write_text('half'); os.kill(os.getpid(), signal.SIGKILL)\n"
        )
        killed = subprocess.run([sys.executable, "-c", writer, store.root], check=False)
        assert killed.returncode == -signal.SIGKILL
        assert store.find("things/a", "k1") is None
        put(store, "k1")
        assert place.left() == set()

    def test_damage_is_noticed(self, store: Store, place: Place) -> None:
        address = put(store, "k1")
        place.damage(address, "sub/file.txt", b"jello")
        for seen in (store, place.elsewhere()):
            with refused(IntegrityError, "store.damaged", address=address, file="sub/file.txt", fault="changed"):
                seen.fetch(address, verify=True)
        place.damage(address, "sub/file.txt", b"hell")
        with refused(IntegrityError, "store.damaged", address=address, file="sub/file.txt", fault="missing"):
            place.elsewhere().fetch(address)
        place.damage(address, "manifest.json", b"{")
        with refused(IntegrityError, "store.damaged", address=address, file="manifest.json", fault="unreadable"):
            place.elsewhere().fetch(address)

    def test_a_file_alone_is_fetched_before_and_after_the_rest(self, store: Store, place: Place) -> None:
        with store.publish("things/a", "k1") as draft:
            for name in ("first", "second"):
                (draft.path / name).write_text(name)
        seen = place.elsewhere()
        alone = seen.fetch(draft.address, names=["second"])
        assert (alone / "second").read_text() == "second"
        # A folder's store returns the artifact itself; a bucket's brings what is needed.
        assert (alone / "first").exists() == store.root.startswith("file:")
        whole = seen.fetch(draft.address)
        assert {name: (whole / name).read_text() for name in ("first", "second")} == {
            name: name for name in ("first", "second")
        }
        assert seen.fetch(draft.address, names=["first"]) == whole

    def test_an_artifact_that_does_not_exist_is_reported_as_missing(self, store: Store, tmp_path: Path) -> None:
        absent, elsewhere = f"{store.root}/things/a/none", f"file://{tmp_path}/elsewhere"
        with refused(NotFoundError, "store.not-found", address=absent):
            store.manifest(absent)
        with refused(NotFoundError, "store.elsewhere", address=elsewhere, store=store.root):
            store.fetch(elsewhere)
        with refused(UserError, "store.scheme-unknown", address="gs://bucket", found="gs", allowed=["file", "s3"]):
            open_store("gs://bucket")

    def test_an_artifact_made_at_another_place_is_read_by_its_former_address(self, store: Store, place: Place) -> None:
        address = put(store, "k1")
        moved = {**store.manifest(address), "address": "file:///other/store/things/a/k1"}
        place.damage(address, "manifest.json", json.dumps(moved).encode())
        store = place.elsewhere()
        for name in (address, moved["address"]):
            assert (store.fetch(name, verify=True) / "sub" / "file.txt").read_text() == "hello"
            assert store.manifest(name)["facts"] == {"length": 5}
        with pytest.raises(NotFoundError, match="does not lie in this store"):
            store.fetch("file:///another/store/things/a/k1")

    def test_a_store_that_moved_twice_is_read_by_every_address_that_it_had(self, place: Place) -> None:
        first = place.elsewhere()
        one = put(first, "k1")
        middle = place.copy()
        place.remove()
        second = middle.elsewhere()
        with second.publish("things/a", "k2") as two:
            two.facts["made_of"] = one
        there = second.find("things/a", "k1")
        second.write_document("deployments/shop", {"old": one, "new": [there, two.address]})
        last = middle.copy()
        middle.remove()
        third = last.elsewhere()
        here = f"{third.root}/things/a/k1"
        for address in (one, there, here, "things/a/k1", f"{one}/", f"{there}/"):
            assert address is not None
            assert third.resolve(address) == third.manifest(address)["address"] == here
            assert (third.fetch(address, verify=True) / "sub" / "file.txt").read_text() == "hello"
        assert third.manifest(two.address)["facts"] == {"made_of": here}
        both = {"old": here, "new": [here, f"{third.root}/things/a/k2"]}
        assert third.read_document("deployments/shop") == both
        assert third.update_document("deployments/shop", lambda before: before or {}) == both
        # It was never there: another store may have made its own.
        with refused(NotFoundError, "store.elsewhere", address=f"{first.root}/things/a/k2", store=third.root):
            third.fetch(f"{first.root}/things/a/k2")
        # What an earlier release moved has no list of places; a store's own documents need none.
        last.remove("places.json")
        assert last.elsewhere().read_document("deployments/shop") == both

    def test_an_address_of_a_copy_is_read_only_where_checksums_match(self, place: Place) -> None:
        first = place.elsewhere()
        both = put(first, "k1")
        copy = place.copy()
        second = copy.elsewhere()
        theirs, ours = put(first, "k2", "theirs"), put(second, "k2", "ours!!")
        same = put(first, "k3")
        put(second, "k3")
        for address, here in ((both, f"{second.root}/things/a/k1"), (same, f"{second.root}/things/a/k3")):
            assert second.resolve(address) == here
            assert second.lies_at(address)
        for read in (second.fetch, second.manifest, second.resolve):
            with refused(IntegrityError, "store.another-artifact", address=theirs, here=ours, store=second.root):
                read(theirs)
        assert not second.lies_at(theirs)
        place.remove()
        second = copy.elsewhere()
        with refused(NotFoundError, "store.elsewhere", address=theirs, here="things/a/k2"):
            second.fetch(theirs)
        assert second.resolve(both) == f"{second.root}/things/a/k1"
        assert not second.lies_at(both)

    def test_a_digest_tells_which_artifact_is_meant(self, store: Store) -> None:
        address, elsewhere = put(store, "k1"), "s3://no-such-bucket/things/a/k1"
        digest = digest_manifest(store.manifest(address))
        assert store.resolve(elsewhere, digest=digest) == address
        with refused(IntegrityError, "store.another-artifact", address=elsewhere, here=address):
            store.resolve(elsewhere, digest="another")

    @pytest.mark.parametrize("newer", ["manifest", "things"])
    def test_an_artifact_of_a_newer_release_is_refused(self, store: Store, place: Place, newer: str) -> None:
        address = put(store, "k1")
        manifest = stamp_document("manifest", store.manifest(address))
        (manifest if newer == "manifest" else manifest["facts"]).update(format=2, written_by="9.9")
        place.damage(address, "manifest.json", json.dumps(manifest).encode())
        for read in (store.manifest, store.fetch, place.elsewhere().fetch):
            expected = {"kind": newer, "found": 2, "known": 1, "written_by": "9.9", "where": address}
            with refused(UserError, "store.newer-format", **expected):
                read(address)

    def test_a_document_of_a_newer_release_is_neither_read_nor_changed(self, store: Store, place: Place) -> None:
        store.write_document("deployments/shop", {"share": 0.1})
        place.damage(store.root, "deployments/shop.json", b'{"format": 99, "share": 0.1}')
        for act in (store.read_document, lambda name: store.update_document(name, lambda before: {"share": 0.3})):
            with refused(UserError, "store.newer-format", kind="deployments", found=99):
                act("deployments/shop")

    def test_documents_are_replaced_whole(self, store: Store, place: Place) -> None:
        assert store.read_document("deployments/shop") is None
        store.write_document("deployments/shop", {"share": 0.1})
        store.write_document("deployments/shop", {"share": 0.3})
        assert place.elsewhere().read_document("deployments/shop") == {"share": 0.3}

    def test_the_mark_of_a_document_tells_of_each_change(self, store: Store, place: Place) -> None:
        assert store.get_document_mark("rollouts/shop/log-000000") is None
        marks = []
        for number in range(3):
            place.elsewhere().write_document("rollouts/shop/log-000000", {"entries": [number]})
            marks.append(store.get_document_mark("rollouts/shop/log-000000"))
            assert store.get_document_mark("rollouts/shop/log-000000") == marks[-1]
        assert None not in marks
        assert len(set(marks)) == 3

    def test_documents_are_listed_by_their_folder_last_changed_first(self, store: Store, place: Place) -> None:
        assert store.list_documents("runs") == []
        store.write_document("runs/b", {})
        store.write_document("runs/b/ingest", {})
        time.sleep(1.1)  # an S3 server tells whole seconds
        store.write_document("runs/a", {})
        store.write_document("runsbeside", {})
        assert place.elsewhere().list_documents("runs") == ["runs/a", "runs/b"]
        assert place.elsewhere().list_documents("runs/b") == ["runs/b/ingest"]
        time.sleep(1.1)
        store.write_document("runs/b", {"changed": True})
        assert store.list_documents("runs") == ["runs/b", "runs/a"]

    def test_no_change_of_a_document_is_lost(self, place: Place) -> None:
        def count(document: Json | None) -> Json:
            return {"count": (document or {"count": 0})["count"] + 1}

        def add(store: Store) -> None:
            for _ in range(5):
                store.update_document("deployments/shop", count)

        writers = [threading.Thread(target=add, args=[place.elsewhere()]) for _ in range(3)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        assert place.elsewhere().read_document("deployments/shop") == {"count": 15}

    def test_a_change_that_changes_nothing_writes_nothing(self, store: Store, place: Place) -> None:
        store.write_document("deployments/shop", {"share": 0.1})
        place.damage(store.root, "deployments/shop.json", b'{"share":   0.1}')
        assert store.update_document("deployments/shop", lambda before: before or {}) == {"share": 0.1}
        place.damage(store.root, "deployments/shop.json", b'{"format": 1, "share": 0.1, "written_by": "0.1.0"}')
        with pytest.raises(ZeroDivisionError):
            store.update_document("deployments/shop", lambda before: {"share": 1 / 0})
        assert place.elsewhere().read_document("deployments/shop") == {"share": 0.1}
        assert place.left() == set()

    @pytest.mark.parametrize("content", [b"", b"{", b"[]", b'"\xff"', b"[" * 100_000])
    def test_a_document_that_is_no_json_object_is_replaced_where_that_is_asked_for(
        self, store: Store, place: Place, content: bytes
    ) -> None:
        store.write_document("deployments/shop", {"share": 0.1})
        place.damage(store.root, "deployments/shop.json", content)
        for act in (store.read_document, lambda name: store.update_document(name, lambda before: {"share": 0.3})):
            with refused(IntegrityError, "store.no-document", kind="deployments"):
                act("deployments/shop")
        given: list[Json | None] = []

        def repaired(before: Json | None) -> Json:
            given.append(before)
            return {"share": 0.3}

        assert store.update_document("deployments/shop", repaired, repair=True) == {"share": 0.3}
        assert given == [None]
        assert place.elsewhere().read_document("deployments/shop") == {"share": 0.3}

    def test_a_name_is_one_holders_at_a_time(self, store: Store, place: Place) -> None:
        seen: list[str] = []

        def second() -> None:
            with place.elsewhere().hold("decisions/shop") as hold:
                seen.append("second")
                hold.check()

        waiting = threading.Thread(target=second)
        with store.hold("decisions/shop") as hold:
            waiting.start()
            with store.hold("decisions/another"):
                time.sleep(0.3)
            hold.check()
            seen.append("first")
        waiting.join()
        assert seen == ["first", "second"]
        assert place.left() == set()

    def test_waiting_too_long_for_a_name_raises_an_error(
        self, store: Store, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(locks, "HOLD_PATIENCE", 0.2)
        with store.hold("decisions/shop"):
            expected = {"what": f"decisions/shop in {store.root}", "holder": locks.describe_this_process()}
            with refused(TransientError, "store.contended", **expected), place.elsewhere().hold("decisions/shop"):
                pass

    def test_checkpoints_outlive_a_failure_and_not_the_work(self, store: Store, place: Place) -> None:
        with pytest.raises(ZeroDivisionError), store.workspace("trained/a", "k") as work:
            (work / "search").mkdir()
            (work / CHECKPOINT).write_text("1")
            (work / "search" / CHECKPOINT).write_text("2")
            raise ZeroDivisionError
        with place.elsewhere().workspace("trained/a", "k") as work:
            assert (work / CHECKPOINT).read_text() == "1"
            assert (work / "search" / CHECKPOINT).read_text() == "2"
        assert not work.exists()
        with place.elsewhere().workspace("trained/a", "k") as work:
            assert list(work.iterdir()) == []
        assert place.left() == set()

    def test_a_workspace_is_one_writers_at_a_time(self, store: Store, place: Place) -> None:
        told, seen = threading.Event(), []

        def second() -> None:
            def tell(line: str) -> None:
                assert "another process does the same work" in line
                told.set()

            with place.elsewhere().workspace("trained/a", "k", tell) as work:
                seen.extend(work.iterdir())

        waiting = threading.Thread(target=second)
        with store.workspace("trained/a", "k") as work:
            (work / CHECKPOINT).write_text("1")
            with store.workspace("trained/a", "another"):
                waiting.start()
                assert told.wait(10)
            assert (work / CHECKPOINT).exists()
        waiting.join()
        assert seen == []

    def test_a_work_folder_stays(self, store: Store) -> None:
        (store.work_folder("serving", "shoes") / "log").write_text("1")
        assert (store.work_folder("serving", "shoes") / "log").read_text() == "1"

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
    def test_a_full_disk_is_reported_and_nothing_is_published(self, store: Store) -> None:
        full = refused(StorageError, "store.cannot-write", reason="No space left on device")
        with full, store.publish("things/a", "k1") as draft:
            (draft.path / "file").symlink_to("/dev/full")
            (draft.path / "file").write_text("x" * 100_000)
        assert store.find("things/a", "k1") is None
