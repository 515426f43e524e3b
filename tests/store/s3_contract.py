"""What the store in a bucket promises besides: on a bad network, with writers that die, stop and wake again."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from endcap.errors import EndcapError, IntegrityError, StorageError, TransientError, UserError
from endcap.store import CHECKPOINT, Store, bucket, lease, locks, open_store, uses
from endcap.store.base import Json
from endcap.store.bucket import Bucket
from endcap.store.s3 import S3Store
from endcap.store.s3_settings import read_s3_settings
from tests.refusals import refused
from tests.store.contract import StoreContract, put
from tests.store.killed import NAME, counted, killed_writers
from tests.store.proxy import Fault, Proxy, proxy
from tests.store.servers import S3Place, Server

FILES = ("a.bin", "b/b.bin")


def publish(store: Store, writer: str, key: str = "k1") -> str:
    """An artifact of a few files that tell who wrote them."""
    with store.publish("things/a", key) as draft:
        for name in FILES:
            (draft.path / name).parent.mkdir(exist_ok=True)
            (draft.path / name).write_text(f"{name} by {writer}")
    return draft.address


def writer_of(store: Store, address: str) -> str:
    """Who wrote the artifact: all of its files, as the manifest says."""
    folder = store.fetch(address, verify=True)
    writers = {(folder / name).read_text().removeprefix(f"{name} by ") for name in FILES}
    assert len(writers) == 1
    return writers.pop()


def until(happened: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.1)


class Killed(BaseException):
    pass


class Mortal(Bucket):
    """Every request of its is let through until `at` were made; then `then` decides."""

    at: int
    then: Callable[[], None]
    _asked = 0

    def _ask(self, *words: Any, **keys: Any) -> Any:
        self._asked += 1
        if self._asked > self.at:
            self.then()
        return super()._ask(*words, **keys)


def mortal(place: S3Place, at: int, then: Callable[[], None]) -> Store:
    place.elsewhere()
    found = Mortal(place.bucket, read_s3_settings())
    found.at, found.then = at, then
    return S3Store(found, "stores/one")


class S3Contract(StoreContract):
    """For subclasses with a fixture `server`."""

    @pytest.fixture
    def place(self, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> S3Place:
        return S3Place(server, tmp_path, monkeypatch)

    @pytest.fixture
    def way(self, place: S3Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
        """A bad way to the server; waits are short."""
        monkeypatch.setattr(bucket, "RETRY_WAITS", (0.01, 0.02, 0.03))
        with proxy(place.server.endpoint) as state:
            yield state

    def test_a_failure_that_may_pass_is_tried_again(self, place: S3Place, way: Proxy) -> None:
        way.faults += [
            Fault("PUT .*a.bin", "answer", times=2),
            Fault("PUT .*b.bin", "drop"),
            Fault("HEAD", "answer", status=500, code="InternalError"),
            Fault("PUT .*/choice.json", "lose"),
            Fault("PUT .*/manifest.json", "lose"),
            Fault("GET .*/things/a/k1/manifest.json", "cut"),
            Fault("GET .*/things/a/k1/b/b.bin", "cut", times=2),
            Fault("DELETE", "answer", status=429, code="TooManyRequests"),
        ]
        store = place.elsewhere(way.endpoint)
        assert writer_of(store, publish(store, "one")) == "one"
        assert writer_of(place.elsewhere(way.endpoint), f"{store.root}/things/a/k1") == "one"
        assert way.done
        assert place.left() == set()

    def test_a_removal_that_was_killed_is_ended_by_the_next(
        self, place: S3Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def kill() -> None:
            raise Killed

        address = publish(place.elsewhere(), "one")
        monkeypatch.setattr(uses, "LEAST_UNUSED", timedelta(0))
        monkeypatch.setenv("ENDCAP_S3_CONDITIONS", "none")  # the server is not tried first
        time.sleep(1.1)  # an S3 server tells whole seconds
        moment = datetime.now(UTC).replace(microsecond=0)
        with pytest.raises(Killed):  # after the manifest went, before the files
            mortal(place, 4, kill).remove(address, unused_since=moment)
        seen = place.elsewhere()
        assert (seen.find("things/a", "k1"), seen.list("things/a")) == (None, [])
        assert [(use.address, use.is_whole) for use in seen.list_uses("things/a")] == [(address, False)]
        assert seen.remove(address, unused_since=moment)
        assert seen.list_uses("things/a") == []

    def test_a_lost_answer_does_not_make_a_lease_somebody_elses(self, place: S3Place, way: Proxy) -> None:
        way.faults += [Fault("PUT .*lease", "lose", times=2)]
        lines: list[str] = []
        with place.elsewhere(way.endpoint).workspace("trained/a", "k", lines.append) as work:
            (work / CHECKPOINT).write_text("1")
        assert way.done
        assert lines == []

    def test_a_change_whose_answer_was_lost_is_made_once(self, place: S3Place, way: Proxy) -> None:
        store = place.elsewhere(way.endpoint)
        for number in (1, 2):
            way.faults += [Fault("PUT .*/counts/shop.json", "lose")]
            changed = store.update_document("counts/shop", lambda before: {"n": (before or {"n": 0})["n"] + 1})
            assert changed == store.read_document("counts/shop") == {"n": number}
        assert way.done

    def test_old_bytes_with_a_new_etag_are_no_ground_for_a_change(self, place: S3Place, way: Proxy) -> None:
        def count(before: Json | None) -> Json:
            return {"n": (before or {"n": 0})["n"] + 1}

        store, other, looks = place.elsewhere(way.endpoint), place.elsewhere(), itertools.count()
        store.update_document("deployments/shop", count)
        name = f"{place.bucket}/stores/one/deployments/shop.json"
        old = place.client.get_object(*name.split("/", 1)).read()
        other.update_document("deployments/shop", count)

        def torn(request: str, body: bytes) -> bytes:
            return old if request.startswith("GET") and "shop.json" in request and next(looks) < 5 else body

        way.rewrite = torn
        assert store.update_document("deployments/shop", count) == {"n": 3}
        assert next(looks) > 5

    def test_a_document_that_others_change_all_the_time_is_given_up(
        self, store: Store, place: S3Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(locks, "CHANGE_PATIENCE", 0.3)
        other, numbers = place.elsewhere(), itertools.count()

        def late(before: Json | None) -> Json:
            other.write_document("deployments/shop", {"n": next(numbers)})
            return {"n": -1}

        with refused(TransientError, "store.contended", what=f"deployments/shop in {store.root}"):
            store.update_document("deployments/shop", late)
        assert store.read_document("deployments/shop") == {"n": next(numbers) - 1}

    def test_a_holder_that_was_stopped_for_long_does_not_go_on(
        self, store: Store, place: S3Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(lease, "LEASE_SECONDS", 2.0)
        monkeypatch.setattr(lease.Lease, "_keep_renewing", lambda self: None)  # it is stopped: it gives no sign of life
        with store.hold("decisions/shop") as stopped, place.elsewhere().hold("decisions/shop") as hold:
            hold.check()
            with refused(TransientError, "store.hold-lost"):
                stopped.check()
            hold.check()

    def test_killed_writers_of_a_document_lose_and_leave_nothing(self, store: Store, place: S3Place) -> None:
        written = killed_writers(place.url, seed=16, count=3, environment=place.environment())
        assert written == sorted(written)
        number = (store.read_document(NAME) or {"number": 0})["number"]
        # Each may have written once more than it had time to say.
        assert max(written, default=0) <= number <= max(written, default=0) + 3
        assert store.update_document(NAME, counted)["number"] == number + 1
        assert place.left() == set()

    @pytest.mark.slow
    def test_a_failure_that_lasts_is_reported(self, place: S3Place, way: Proxy) -> None:
        store = place.elsewhere(way.endpoint)
        publish(store, "one", "k0")
        way.faults += [Fault("PUT", "answer", times=1000)]
        with refused(
            TransientError, "store.server-fails", doing="write", answer="SlowDown", endpoint=way.endpoint
        ) as caught:
            publish(store, "one")
        assert caught.value.fields["address"].endswith("/a.bin")
        way.faults[:] = [Fault(".*", "drop", times=1000)]
        with refused(TransientError, "store.unreachable", endpoint=way.endpoint):
            store.find("things/a", "k1")

    @pytest.mark.parametrize(
        ("status", "answer", "kind", "code"),
        [
            (403, "InvalidAccessKeyId", UserError, "store.credentials-refused"),
            (403, "SignatureDoesNotMatch", UserError, "store.credentials-refused"),
            (400, "ExpiredToken", UserError, "store.credentials-refused"),
            (403, "AccessDenied", StorageError, "store.denied"),
            (404, "NoSuchBucket", UserError, "store.bucket-not-found"),
            (400, "AuthorizationHeaderMalformed", UserError, "store.wrong-region"),
            (507, "XMinioStorageFull", StorageError, "store.full"),
            (403, "RequestTimeTooSkewed", StorageError, "store.clock-differs"),
        ],
    )
    def test_each_refusal_has_its_own_error(
        self, place: S3Place, way: Proxy, status: int, answer: str, kind: type[EndcapError], code: str
    ) -> None:
        store = place.elsewhere(way.endpoint)
        way.faults += [Fault("PUT", "answer", status=status, code=answer, times=1000)]
        with refused(kind, code, endpoint=way.endpoint):
            publish(store, "one")
        assert store.find("things/a", "k1") is None

    def test_a_wrong_address_of_the_server_is_reported_at_once(
        self, place: S3Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(bucket, "RETRY_WAITS", ())
        with refused(UserError, "store.bucket-not-found", bucket="s3://endcap-none"):
            open_store("s3://endcap-none/store")
        with refused(UserError, "store.host-unknown", host="no-such-host.invalid", variable="ENDCAP_S3_ENDPOINT"):
            place.elsewhere("http://no-such-host.invalid")
        by_tls = place.server.endpoint.replace("http://", "https://")
        with refused(UserError, "store.no-tls", endpoint=by_tls, variables=["ENDCAP_S3_CA", "ENDCAP_S3_ENDPOINT"]):
            place.elsewhere(by_tls)
        with refused(TransientError, "store.unreachable", endpoint="http://127.0.0.1:1"):
            place.elsewhere("http://127.0.0.1:1")

    def test_two_writers_at_once_make_one_artifact(self, place: S3Place) -> None:
        stores = [place.elsewhere() for _ in range(4)]
        for key in ("k1", "k2", "k3"):
            writers = [
                threading.Thread(target=publish, args=(store, f"writer {number}", key))
                for number, store in enumerate(stores)
            ]
            for writer in writers:
                writer.start()
            for writer in writers:
                writer.join()
            address = f"{place.url}/things/a/{key}"
            seen = {writer_of(store, address) for store in (*stores, place.elsewhere())}
            assert len(seen) == 1
        assert place.left() == set()

    @pytest.mark.slow
    def test_a_writer_that_stops_anywhere_and_wakes_late_changes_nothing(self, place: S3Place) -> None:
        other, reader = place.elsewhere(), place.elsewhere()
        for at in range(1, 100):
            key = f"k{at}"
            stopped, wake = threading.Event(), threading.Event()

            def stop(stopped: threading.Event = stopped, wake: threading.Event = wake) -> None:
                stopped.set()
                wake.wait(60)

            sleeper = threading.Thread(target=publish, args=(mortal(place, at, stop), "sleeper", key))
            sleeper.start()
            while sleeper.is_alive() and not stopped.wait(0.01):
                pass
            if not stopped.is_set():
                break
            address = publish(other, "other", key)
            objects = {name for name in place.names() if name.startswith("things/")}
            writer = writer_of(reader, address)
            wake.set()
            sleeper.join()
            assert writer_of(reader, address) == writer
            assert {name for name in place.names() if name.startswith("things/")} == objects
        assert at > 15
        assert place.left() == set()

    def test_a_writer_that_is_killed_anywhere_leaves_nothing_half(self, place: S3Place) -> None:
        def die() -> None:
            raise Killed

        other, reader = place.elsewhere(), place.elsewhere()
        for at in range(1, 100):
            key = f"k{at}"
            try:
                publish(mortal(place, at, die), "dead", key)
            except Killed:
                found = reader.find("things/a", key)
                assert found is None or writer_of(reader, found) == "dead"
                assert writer_of(reader, publish(other, "other", key)) in ("dead", "other")
            else:
                break
        assert at > 15

    def test_a_choice_whose_draft_was_removed_is_replaced(self, place: S3Place) -> None:
        manifest = {"address": f"{place.url}/things/a/k1", "created": "2026-03-02T06:00:00+00:00", "facts": {}}
        gone = {"draft": "0" * 32, "manifest": {**manifest, "files": {"a.bin": {"bytes": 1, "sha256": "0" * 64}}}}
        place.put("stores/one/.drafts/things/a/k1/choice.json", json.dumps(gone).encode())
        store = place.elsewhere()
        assert writer_of(store, publish(store, "one")) == "one"
        assert place.left() == set()

    def test_abandoned_drafts_are_swept_and_others_are_not(
        self, place: S3Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from datetime import timedelta

        from endcap.store import publication

        draft = ".drafts/things/b/k0/" + "0" * 32 + "/sub/file"
        place.put(f"stores/one/{draft}", b"x")
        publish(place.elsewhere(), "one", "k1")
        assert place.left() == {draft}
        monkeypatch.setattr(publication, "ABANDONED_AFTER", timedelta(seconds=1))
        # A server tells its time in whole seconds, and some only once in a while: not sooner, and soon enough.
        deadline, key = time.monotonic() + 20, 2
        while place.left() and time.monotonic() < deadline:
            time.sleep(1)
            publish(place.elsewhere(), "one", f"k{key}")
            key += 1
        assert place.left() == set()

    def test_a_process_killed_while_it_publishes_leaves_nothing_whole(self, place: S3Place, way: Proxy) -> None:
        script = (
            "import sys; from tests.store.s3_contract import publish; from endcap.store import open_store\n"
            "publish(open_store(sys.argv[1]), 'dead')\n"
        )
        ready = threading.Event()
        process: list[subprocess.Popen[bytes]] = []

        def kill() -> None:
            ready.wait(10)
            process[0].kill()

        way.faults += [Fault("PUT .*choice.json", "call", call=kill)]
        environment = place.environment(way.endpoint)
        process.append(subprocess.Popen([sys.executable, "-c", script, place.url], env=environment))
        ready.set()
        assert process[0].wait(60) == -signal.SIGKILL
        store = place.elsewhere()
        assert store.find("things/a", "k1") is None
        assert {Path(name).parts[0] for name in place.names()} == {".drafts", "places.json"}
        # The killed one's choice may still have reached the server: then it is carried out.
        assert writer_of(store, publish(store, "other")) in ("dead", "other")

    def test_large_files_go_in_parts_both_ways(self, place: S3Place, way: Proxy) -> None:
        store = place.elsewhere(way.endpoint)
        content = os.urandom(1 << 20) * 30
        way.faults += [Fault("PUT .*partNumber=2", "answer", times=2), Fault("GET .*/large", "cut", times=2)]
        with store.publish("things/a", "k1") as draft:
            (draft.path / "large").write_bytes(content)
        parts = {found[1] for line in way.seen if (found := re.search(r"PUT .*/large.*partNumber=(\d+)", line))}
        assert parts == {"1", "2", "3", "4"}
        copy = place.elsewhere(way.endpoint).fetch(draft.address) / "large"
        assert hashlib.sha256(copy.read_bytes()).digest() == hashlib.sha256(content).digest()
        # Each time it went on where it was cut.
        ranges = [line.rpartition(" ")[2] for line in way.seen if line.startswith("GET") and "/large" in line]
        starts = [int(one.removeprefix("bytes=").rstrip("-")) for one in ranges if one.startswith("bytes=")]
        assert starts == sorted(starts)
        assert len(starts) == 2
        assert starts[0] >= 14 << 20
        assert way.done

    def test_a_killed_download_continues_where_it_ended(self, place: S3Place, way: Proxy) -> None:
        with place.elsewhere().publish("things/a", "k1") as draft:
            (draft.path / "whole").write_bytes(b"w" * 1000)
            (draft.path / "half").write_bytes(b"h" * 1000)
            (draft.path / "wrong").write_bytes(b"r" * 1000)
        store = place.elsewhere(way.endpoint)
        files = store.manifest(draft.address)["files"]
        folder = store.fetch(draft.address)
        # As a killed process leaves it: no manifest; one file whole, one part good and one damaged.
        (folder / "manifest.json").unlink()
        (folder / ".parts").mkdir()
        for name, piece in (("half", b"h" * 400), ("wrong", b"x" * 400)):
            (folder / name).unlink()
            (folder / ".parts" / files[name]["sha256"]).write_bytes(piece)
        way.seen.clear()
        assert store.fetch(draft.address) == folder
        assert sorted(path.name for path in folder.iterdir()) == ["half", "manifest.json", "whole", "wrong"]
        assert (folder / "wrong").read_bytes() == b"r" * 1000
        asked = [line for line in way.seen if not line.endswith("manifest.json")]
        assert [line.split("/")[-1] for line in asked if "half" in line] == ["half bytes=400-"]
        assert not [line for line in asked if "whole" in line]

    def test_this_machines_copy_is_used_and_mended(self, place: S3Place, way: Proxy) -> None:
        address = publish(place.elsewhere(), "one")
        store = place.elsewhere(way.endpoint)
        folder = store.fetch(address)
        way.seen.clear()
        store.fetch(address)
        assert len(way.seen) == 1
        (folder / "a.bin").write_text("short")
        assert writer_of(store, address) == "one"

    def test_an_altered_object_is_refused_and_names_the_address(self, place: S3Place) -> None:
        store = place.elsewhere()
        address = publish(store, "one")
        place.damage(address, "b/b.bin", b"b/b.bin by two")
        for seen, verify in ((place.elsewhere(), False), (store, True)):
            with refused(IntegrityError, "store.damaged", address=address, file="b/b.bin", fault="changed"):
                seen.fetch(address, verify=verify)
        place.client.remove_object(place.bucket, f"stores/one/things/a/k1/{FILES[0]}")
        with refused(IntegrityError, "store.damaged", address=address, file="a.bin", fault="missing"):
            place.elsewhere().fetch(address)

    def test_no_order_of_a_listing_is_relied_on(self, place: S3Place, way: Proxy) -> None:
        def backwards(request: str, body: bytes) -> bytes:
            for tag in (b"Contents", b"CommonPrefixes"):
                blocks = re.findall(rb"<%s>.*?</%s>" % (tag, tag), body, re.DOTALL)
                turned = iter(blocks[::-1])
                body = re.sub(
                    rb"<%s>.*?</%s>" % (tag, tag), lambda _, turned=turned: next(turned), body, flags=re.DOTALL
                )
            return body

        way.rewrite = backwards
        store = place.elsewhere(way.endpoint)
        assert [put(store, key) for key in ("k3", "k1", "k2")] == store.list("things/a")

    def test_work_that_is_killed_goes_on_elsewhere(self, place: S3Place, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(lease, "LEASE_SECONDS", 3.0)
        script = (
            "import sys, numpy as np; from endcap.store import lease, open_store\n"
            "from endcap.models import checkpoint\n"
            "lease.LEASE_SECONDS = 3.0\n"
            "with open_store(sys.argv[1]).workspace('trained/a', 'k') as work:\n"
            "    (work / 'search').mkdir()\n"
            "    for epoch in (1, 2):\n"
            "        checkpoint.write(work / 'search', 'fit', {'epoch': epoch}, {'n': {'w': np.full(3, epoch)}})\n"
            "        sys.stdin.readline()\n"
        )
        command = [sys.executable, "-c", script, place.url]
        with subprocess.Popen(command, env=place.environment(), stdin=subprocess.PIPE, text=True) as process:
            assert process.stdin is not None
            until(lambda: len(place.checkpoints()) == 1)
            first = place.checkpoints()
            print(file=process.stdin, flush=True)
            until(lambda: place.checkpoints() != first)
            process.kill()
        from endcap.models import checkpoint

        lines: list[str] = []
        with place.elsewhere().workspace("trained/a", "k", lines.append) as work:
            found = checkpoint.read(work / "search", "fit")
            assert found is not None
            assert found[0] == {"epoch": 2}
        *waited, restored = lines
        assert all(f"process {process.pid}" in line for line in waited)
        assert restored == f"search/{CHECKPOINT} was kept by an earlier process; the work continues from it"
        assert place.left() == set()

    def test_an_evicted_process_keeps_its_last_checkpoint(self, place: S3Place) -> None:
        script = (
            "import sys, time; from endcap.store import open_store, CHECKPOINT\n"
            "with open_store(sys.argv[1]).workspace('trained/a', 'k') as work:\n"
            "    (work / CHECKPOINT).write_text('last')\n"
            "    print('ready', flush=True)\n"
            "    time.sleep(60)\n"
        )
        command = [sys.executable, "-c", script, place.url]
        with subprocess.Popen(command, env=place.environment(), stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            process.stdout.readline()
            process.terminate()
        assert process.returncode == 128 + signal.SIGTERM
        begun = time.monotonic()
        with place.elsewhere().workspace("trained/a", "k") as work:
            assert (work / CHECKPOINT).read_text() == "last"
        assert time.monotonic() - begun < lease.LEASE_SECONDS / 2  # it was given back

    def test_a_holder_that_lost_its_lease_does_not_overwrite_the_next_holders_checkpoint(
        self, place: S3Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(lease, "LEASE_SECONDS", 2.0)
        frozen = threading.Event()
        keep = lease.Lease._keep_renewing

        def stand_still(self: lease.Lease) -> None:
            while not frozen.wait(0.1):
                pass
            keep(self)

        monkeypatch.setattr(lease.Lease, "_keep_renewing", stand_still)

        def kept(generation: int) -> str | None:
            found = [content for name, content in place.checkpoints().items() if f"/{generation:08d}-" in name]
            return found[0].decode() if found else None

        lines: list[str] = []
        with place.elsewhere().workspace("trained/a", "k", lines.append) as old:
            (old / CHECKPOINT).write_text("old 1")
            until(lambda: kept(1) == "old 1")
            monkeypatch.setattr(lease.Lease, "_keep_renewing", keep)
            with pytest.raises(ZeroDivisionError), place.elsewhere().workspace("trained/a", "k") as new:
                assert (new / CHECKPOINT).read_text() == "old 1"
                (new / CHECKPOINT).write_text("new")
                until(lambda: kept(2) == "new")
                (old / CHECKPOINT).write_text("old 2")
                until(lambda: kept(1) == "old 2")
                frozen.set()
                raise ZeroDivisionError
            until(lambda: any("took over this work" in line for line in lines))
        with place.elsewhere().workspace("trained/a", "k") as work:
            assert (work / CHECKPOINT).read_text() == "new"
