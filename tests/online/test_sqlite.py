"""The online store in a file of this machine."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest

from endcap.online import open_online
from tests.online.contract import OnlineContract, Open


class TestSQLite(OnlineContract):
    @pytest.fixture
    def opened(self, tmp_path: Path) -> Open:
        return functools.partial(open_online, f"sqlite://{tmp_path}/new/online.sqlite", shop="shop", timeout=5)
