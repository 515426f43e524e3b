"""What stops a SparkApplication before its driver runs, without a cluster. `tests.cluster` has the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from endcap.cluster import connect
from endcap.errors import ClusterError, UserError
from endcap.spark import application
from endcap.spark.application import start_application
from endcap.spec.spark import SparkSpec
from tests.cluster_client.fake_api_server import api_server, kubeconfig
from tests.refusals import refused


def section(**keys: Any) -> SparkSpec:
    return SparkSpec.model_validate({"application": keys, "image": "spark:1"})


def test_an_application_without_a_namespace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(application, "read_own_namespace", lambda: None)
    with (
        refused(UserError, "spark.no-namespace", setting="spark.application.namespace"),
        start_application(connect(str(kubeconfig(tmp_path, 1))), section()),
    ):
        pass


def test_definitions_of_an_operator_without_pod_templates(tmp_path: Path) -> None:
    with api_server() as server:
        # Kubernetes drops the keys that a definition lacks, and says nothing of them.
        spec = {"driver": {"cores": 1}, "executor": {"instances": 2}}
        server.say(201, {"metadata": {"name": "made", "namespace": "team", "uid": "1"}, "spec": spec})
        server.say(200, {"status": "Success"})
        with (
            refused(ClusterError, "spark.operator-too-old"),
            start_application(connect(str(kubeconfig(tmp_path, server.port))), section(namespace="team")),
        ):
            pass
    (_, _, sent), (method, path, _) = server.requests
    assert "template" in sent["spec"]["driver"]
    assert (method, path.rpartition("/")[2].partition("?")[0]) == ("DELETE", sent["metadata"]["name"])
