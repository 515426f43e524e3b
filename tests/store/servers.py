"""S3 servers for tests, and a store in a bucket of one."""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from minio import Minio
from minio.commonconfig import CopySource
from minio.error import S3Error

from endcap.store import Store, open_store
from endcap.store.conditional_writes import PROBE

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Server:
    """A running S3 server, and a key that may do everything."""

    endpoint: str
    access_key: str = "endcap-test"
    secret_key: str = "endcap-test-secret"

    def client(self) -> Minio:
        host = self.endpoint.removeprefix("http://")
        return Minio(host, self.access_key, self.secret_key, secure=False, region="us-east-1")

    def environment(self, endpoint: str | None = None) -> dict[str, str]:
        return {
            "ENDCAP_S3_ENDPOINT": endpoint or self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
        }


@contextlib.contextmanager
def moto() -> Iterator[Server]:
    """Moto's server, in this process. It keeps objects in memory, and lets every key do everything."""
    import logging

    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    _in_one_step(server)
    host, port = server.get_host_and_port()
    try:
        yield Server(f"http://{host}:{port}")
    finally:
        server.stop()


def _in_one_step(server: Any) -> None:
    """Have moto look at a write's condition and write in one step, as S3 does: it answers each request in a thread."""
    running, lock = server._server, threading.Lock()
    answer = running.app

    def serially(environ: Any, begin: Any) -> Any:
        with lock if environ["REQUEST_METHOD"] == "PUT" else contextlib.nullcontext():
            return answer(environ, begin)

    running.app = serially


class S3Place:
    """A store in a new bucket; see `tests.store.contract.Place`. Each view of `elsewhere` has a cache of its own."""

    def __init__(self, server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.server, self.client, self._folder, self._patch = server, server.client(), folder, monkeypatch
        self._make_bucket()
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)

    def _make_bucket(self) -> None:
        self.bucket = f"endcap-{uuid.uuid4().hex[:12]}"
        self.client.make_bucket(self.bucket)
        self.url = f"s3://{self.bucket}/stores/one"

    def copy(self) -> S3Place:
        made = S3Place(self.server, self._folder, self._patch)
        for name in self.names():
            made.client.copy_object(made.bucket, f"stores/one/{name}", CopySource(self.bucket, f"stores/one/{name}"))
        return made

    def remove(self, name: str = "") -> None:
        for one in [name] if name else self.names():
            self.client.remove_object(self.bucket, f"stores/one/{one}")
        if not name:
            self.client.remove_bucket(self.bucket)

    def elsewhere(self, endpoint: str | None = None) -> Store:
        """endpoint: another way to the same server."""
        self._patch.setenv("ENDCAP_CACHE", str(self._folder / f"machine-{next(_numbers)}"))
        self._patch.setenv("ENDCAP_S3_ENDPOINT", endpoint or self.server.endpoint)
        return open_store(self.url)

    def environment(self, endpoint: str | None = None) -> dict[str, str]:
        """Of a process on another machine."""
        cache = {"ENDCAP_CACHE": str(self._folder / f"machine-{next(_numbers)}")}
        return {**os.environ, **self.server.environment(endpoint), **cache}

    def put(self, name: str, content: bytes) -> None:
        self.client.put_object(self.bucket, name, BytesIO(content), len(content))

    def names(self) -> set[str]:
        found = self.client.list_objects(self.bucket, "stores/one/", recursive=True)
        return {str(one.object_name).removeprefix("stores/one/") for one in found}

    def checkpoints(self) -> dict[str, bytes]:
        """What is kept of unfinished work."""
        found = {}
        for name in sorted(self.names()):
            if name.startswith(".work/") and not name.endswith(".lease"):
                with contextlib.suppress(S3Error):  # replaced by the next holder's meanwhile
                    response = self.client.get_object(self.bucket, f"stores/one/{name}")
                    found[name] = response.read()
                    response.close()
                    response.release_conn()
        return found

    def damage(self, address: str, name: str, content: bytes) -> None:
        self.put(f"{address.removeprefix(f's3://{self.bucket}/')}/{name}", content)

    def left(self) -> set[str]:
        hidden = {name for name in self.names() if name.startswith(".") and name != PROBE}
        return {name for name in hidden if not name.endswith(".lease")}
