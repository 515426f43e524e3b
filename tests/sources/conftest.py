"""A bucket of the test's own, behind a proxy that counts requests and has faults."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from endcap.store import bucket
from tests.store.proxy import Proxy, proxy
from tests.store.servers import S3Place, Server, moto


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with moto() as running:
        yield running


@pytest.fixture
def place(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> S3Place:
    return S3Place(server, tmp_path, monkeypatch)


@pytest.fixture
def way(place: S3Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Proxy]:
    monkeypatch.setattr(bucket, "RETRY_WAITS", (0.01,))
    with proxy(place.server.endpoint) as state:
        monkeypatch.setenv("ENDCAP_S3_ENDPOINT", state.endpoint)
        monkeypatch.setenv("ENDCAP_CACHE", str(tmp_path / "cache"))
        yield state
