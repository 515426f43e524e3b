"""The store in a bucket, on moto's server: it keeps objects in memory, and asks nobody for a right.

`tests/cluster/test_store.py` runs the same suite on a real S3 server.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from endcap.errors import StorageError, UserError
from endcap.store.conditional_writes import PROBE
from tests.refusals import refused
from tests.store.proxy import Proxy
from tests.store.s3_contract import S3Contract
from tests.store.servers import S3Place, Server, moto


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with moto() as running:
        yield running


class TestMoto(S3Contract):
    def test_a_server_that_passes_over_conditions_changes_nothing_that_decides(
        self, place: S3Place, way: Proxy, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("if-match", "if-none-match"):
            way.withheld = frozenset([name])
            store = place.elsewhere(way.endpoint)
            for _ in range(2):
                with refused(StorageError, "store.no-conditions", variable="ENDCAP_S3_CONDITIONS"):
                    store.update_document("deployments/shop", lambda before: {"share": 0.1})
            with refused(StorageError, "store.no-conditions"), store.hold("decisions/shop"):
                pass
            with refused(StorageError, "store.no-conditions"):
                store.remove("things/a/k1", unused_since=datetime.now(UTC) - timedelta(days=9))
            assert store.read_document("deployments/shop") is None
            # The server is tried once.
            assert len([request for request in way.seen if request.startswith("PUT") and PROBE in request]) <= 3
            way.seen.clear()
        # What one run writes alone is written all the same.
        assert store.update_document("runs/a", lambda before: {"run": "a"}) == {"run": "a"}
        monkeypatch.setenv("ENDCAP_S3_CONDITIONS", "none")
        alone = place.elsewhere(way.endpoint)
        assert alone.update_document("deployments/shop", lambda before: {"share": 0.1}) == {"share": 0.1}
        monkeypatch.setenv("ENDCAP_S3_CONDITIONS", "yes")
        with refused(UserError, "store.conditions-malformed", found="yes"):
            place.elsewhere()
