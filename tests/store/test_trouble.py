"""A store's server in trouble: a login in its place is told at once, a server that is busy is waited for, and shown."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from endcap.errors import UserError
from endcap.progress import Notice
from endcap.retries import send_wait_lines, show_line
from endcap.secrets import MOUNT
from endcap.store import bucket
from endcap.store.bucket import Bucket
from endcap.store.s3_settings import read_s3_settings
from tests.cluster.certificates import Authority
from tests.refusals import refused
from tests.store.proxy import Fault, Proxy, proxy
from tests.store.servers import S3Place, Server, moto

LOGIN = "<html><title>Sign in to Acme</title></html>"
PAGE = {"content-type": "text/html"}


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with moto() as running:
        yield running.endpoint


@pytest.fixture
def way(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    with proxy(server) as state:
        for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"):
            monkeypatch.setenv(f"AWS_{name}", "x")
        monkeypatch.setenv("ENDCAP_S3_ENDPOINT", state.endpoint)
        yield state


@pytest.mark.parametrize("redirects", [False, True])
@pytest.mark.parametrize("call", ["read", "write", "list", "stat"])
def test_a_login_in_the_servers_place_is_no_object_and_takes_none(way: Proxy, call: str, redirects: bool) -> None:
    way.faults.append(Fault(".* /login" if redirects else ".*", "answer", 9, status=200, body=LOGIN, headers=PAGE))
    way.faults.append(Fault(".*", "answer", 9, status=302, body="", headers={"location": "/login"}))
    there = Bucket("shop", read_s3_settings())
    calls = {
        "read": lambda: there.read("x"),
        "write": lambda: there.write("x", b"1"),
        "list": lambda: there.list("x"),
        "stat": lambda: there.stat("x"),
    }
    title = "" if call == "stat" else "Sign in to Acme"
    with refused(UserError, "store.login-page", status=200, title=title, endpoint=way.endpoint):
        calls[call]()


def test_a_server_that_is_busy_is_waited_for_and_that_is_shown(
    way: Proxy, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = S3Place(Server(server), tmp_path, monkeypatch)
    monkeypatch.setenv("ENDCAP_S3_ENDPOINT", way.endpoint)
    monkeypatch.setattr(bucket, "RETRY_WAITS", (1.0,))
    there, shown = Bucket(place.bucket, read_s3_settings()), list[str]()
    # Each attempt of ours is three of the client's.
    way.faults.append(Fault("PUT .*", "answer", 3, status=503))
    with send_wait_lines(shown.append):
        there.write("x", b"1")
    (notice, *_) = shown
    assert isinstance(notice, Notice)
    assert notice.fields["limit"] is None
    assert place.client.get_object(place.bucket, "x").read() == b"1"


def test_a_certificate_that_is_not_trusted_is_told_at_once(
    way: Proxy, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = S3Place(Server(server), tmp_path / "place", monkeypatch)
    pair = Authority(tmp_path).issue("s3", "s3", hosts=("127.0.0.1",))
    begun = time.monotonic()
    with proxy(server, (pair.certificate, pair.key)) as secure:
        monkeypatch.setenv("ENDCAP_S3_ENDPOINT", secure.endpoint)
        with refused(UserError, "store.no-tls", endpoint=secure.endpoint):
            Bucket("shop", read_s3_settings()).read("x")
        # Of the mounted Secret, as a step's pod has it.
        monkeypatch.setenv(MOUNT, str(tmp_path))
        Bucket(place.bucket, read_s3_settings()).write("x", b"1")
    assert place.client.get_object(place.bucket, "x").read() == b"1"
    assert time.monotonic() - begun < 5


def test_lines_about_waiting_go_to_whoever_follows(capsys: pytest.CaptureFixture[str]) -> None:
    outer, inner = list[str](), list[str]()
    with send_wait_lines(outer.append):
        with send_wait_lines(inner.append):
            thread = threading.Thread(target=show_line, args=["from a thread"])
            thread.start()
            thread.join()
        show_line("later")
    show_line("nobody follows")
    assert (outer, inner) == (["later"], ["from a thread"])
    assert capsys.readouterr().err == "nobody follows\n"
