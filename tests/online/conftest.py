"""The server that the online store's tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.online.servers import RedisServer


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server
