"""One Spark for all tests that need a Connect server: its start costs more than most tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from endcap.spark.server import TOKEN, SparkServer, start_server
from tests.spark.clusters import WATCHED, spark, spark_home


@pytest.fixture(scope="session")
def _running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkServer]:
    folder = tmp_path_factory.mktemp("spark")
    with pytest.MonkeyPatch.context() as patch, spark_home(folder / "home"):
        patch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
        with start_server(spark(master="local-cluster[2,1,600]", conf=WATCHED), folder) as started:
            patch.undo()
            yield started


@pytest.fixture
def server(_running: SparkServer, monkeypatch: pytest.MonkeyPatch) -> SparkServer:
    """A Spark Connect server with two executors in processes of their own."""
    monkeypatch.setenv(TOKEN, _running.token)
    return _running
