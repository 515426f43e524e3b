"""The online store on a real redis-server."""

from __future__ import annotations

import functools

import pytest

from endcap.online import open_online
from tests.online.contract import OnlineContract, Open
from tests.online.servers import RedisServer


class TestRedis(OnlineContract):
    @pytest.fixture
    def opened(self, redis_server: RedisServer) -> Open:
        redis_server.client().flushall()
        return functools.partial(open_online, redis_server.url, shop="shop", timeout=5)
