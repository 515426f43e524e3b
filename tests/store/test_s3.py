"""The store in a bucket, on moto's server: it keeps objects in memory, and asks nobody for a right.

`tests/cluster/test_store.py` runs the same suite on a real S3 server.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.store.s3_contract import S3Contract
from tests.store.servers import Server, moto


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with moto() as running:
        yield running


class TestMoto(S3Contract):
    pass
