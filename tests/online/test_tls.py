"""A redis-server that speaks TLS and asks for a client's certificate."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from endcap.errors import OnlineStoreError
from endcap.online import open_online
from endcap.online.address import CERTIFICATES
from endcap.secrets import MOUNT
from tests.cluster.certificates import Authority
from tests.refusals import refused


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("redis")
    authority = Authority(folder / "ca")
    authority.issue("server", "redis", hosts=("localhost",))
    authority.issue("client", "client")
    return folder


@pytest.fixture(scope="module")
def url(place: Path) -> Iterator[str]:
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("no redis-server on the PATH")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    files = {"--tls-cert-file": "server.crt", "--tls-key-file": "server.key", "--tls-ca-cert-file": "ca.crt"}
    words = ["--port", "0", "--tls-port", str(port), "--bind", "127.0.0.1", "--dir", str(place), "--save", ""]
    words += [word for option, file in files.items() for word in (option, str(place / "ca" / file))]
    with (place / "log").open("wb") as log:
        server = subprocess.Popen([program, *words], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 60
        while True:
            if server.poll() is not None:
                pytest.skip(f"this redis-server has no TLS: {(place / 'log').read_text()[-300:]}")
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert time.monotonic() < deadline, (place / "log").read_text()
                time.sleep(0.02)
        yield f"rediss://localhost:{port}"
    finally:
        server.kill()
        server.wait()


def mount(place: Path, folder: Path, **files: str) -> Path:
    folder.mkdir()
    for name, file in files.items():
        shutil.copy(place / "ca" / file, folder / name.replace("_", ".").replace("online.", "online-"))
    return folder


def test_certificates_come_from_a_mounted_secret(
    place: Path, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_online(url, shop="shop", timeout=2) as store, refused(OnlineStoreError, "online.no-tls"):
        store.ping()
    only = mount(place, tmp_path / "authority", ca_crt="ca.crt")
    monkeypatch.setenv(CERTIFICATES, str(only))
    with open_online(url, shop="shop", timeout=2) as store, pytest.raises(OnlineStoreError):
        store.ping()
    own = mount(place, tmp_path / "own", ca_crt="ca.crt", tls_crt="client.crt", tls_key="client.key")
    monkeypatch.setenv(CERTIFICATES, str(own))
    with open_online(url, shop="shop", timeout=2) as store:
        store.ping()
    # The steps of a pipeline are given no other Secret than the object store's.
    monkeypatch.delenv(CERTIFICATES)
    files = {"online_ca_crt": "ca.crt", "online_tls_crt": "client.crt", "online_tls_key": "client.key"}
    monkeypatch.setenv(MOUNT, str(mount(place, tmp_path / "shared", **files)))
    with open_online(url, shop="shop", timeout=2) as store:
        store.ping()
    # What the address says counts.
    other = Authority(tmp_path / "other").certificate
    wrong = f"{url}?ssl_ca_certs={other}"
    with open_online(wrong, shop="shop", timeout=2) as store, refused(OnlineStoreError, "online.no-tls"):
        store.ping()
