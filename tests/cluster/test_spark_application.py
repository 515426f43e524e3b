"""A SparkApplication of a step's own, on a real API server that has the operator's definition of it. The step has the
account that KFP's runs have, with the chart's rights."""

from __future__ import annotations

import base64
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from endcap.cluster import connect
from endcap.errors import ClusterError, EndcapError
from endcap.features import build
from endcap.spark import application
from endcap.spark.application import SparkApplication, start_application
from endcap.spark.failures import explain_failure
from endcap.spec.spark import SparkSpec
from endcap.store import open_store
from tests.cluster.build import module_folder
from tests.cluster.given import Cluster, defined_cluster, eventually, own_namespace
from tests.cluster.manifests import documents
from tests.cluster.spark_operator import SparkOperator
from tests.conftest import ROOT
from tests.features.logs import sessions, shop, snapshot
from tests.refusals import refused
from tests.spark.clusters import QUICK, needs_java

_OPERATOR = "github.com/kubeflow/spark-operator/v2"
_CRD = "sparkapplications.sparkoperator.k8s.io"
_FILE = Path("config", "crd", "bases", "sparkoperator.k8s.io_sparkapplications.yaml")
ACCOUNT = "pipeline-runner"


@pytest.fixture(scope="module")
def control_plane() -> Iterator[Cluster]:
    """A cluster that knows SparkApplications, and no operator that makes them."""
    with defined_cluster(_CRD, lambda: documents(module_folder("spark-operator", _OPERATOR) / _FILE)) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def namespace(control_plane: Cluster) -> Iterator[str]:
    """A namespace with the account of steps."""
    with own_namespace(control_plane, "spark") as made:
        control_plane.kubectl("-n", made, "create", "serviceaccount", ACCOUNT)
        rights = control_plane.helm(
            *("template", "endcap", str(ROOT / "charts" / "endcap"), "--show-only=templates/spark/rbac.yaml"),
            *("--set", f"kfp.serviceAccount.namespace={made}", "--set", "kfp.sparkApplications.enabled=true"),
        )
        control_plane.kubectl("apply", "--server-side", "-f", "-", stdin=rights.stdout)
        yield made


@pytest.fixture(scope="module")
def account(control_plane: Cluster, namespace: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The account's kubeconfig."""
    config = yaml.safe_load(control_plane.kubeconfig.read_text())
    token = control_plane.kubectl("-n", namespace, "create", "token", ACCOUNT).stdout.strip()
    for user in config["users"]:
        user["user"] = {"token": token}
    file = tmp_path_factory.mktemp("account") / "kubeconfig"
    file.write_text(yaml.safe_dump(config))
    return file


@pytest.fixture
def operator(control_plane: Cluster, namespace: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[SparkOperator]:
    monkeypatch.setattr(application, "LOOK", 0.1)
    there = SparkOperator(control_plane, namespace)
    yield there
    control_plane.kubectl("-n", namespace, "delete", "pod", "--all", "--grace-period=0", "--force")
    eventually(lambda: there.list_names() == [] and there.list_secrets() == [])


def section(namespace: str, **keys: Any) -> SparkSpec:
    where = {"namespace": namespace, "ready_within": keys.pop("ready_within", "2m")}
    return SparkSpec.model_validate({"application": where, "image": "spark:1", "driver_memory": "600Mi", **keys})


# Makes an application, shows what it is told, and stays in it until it is ended.
HOLDER = """
import socket, sys, time
from endcap.cluster import connect, own_pod
from endcap.processes import exit_on_sigterm
from endcap.spark.application import start_application
from endcap.spec.spark import SparkSpec
own_pod.read_own_namespace, socket.gethostname = lambda: sys.argv[3], lambda: "step"
show = lambda line: print(line, flush=True)
spec = SparkSpec.model_validate_json(sys.argv[1])
with exit_on_sigterm(), start_application(connect(sys.argv[2]), spec, show) as made:
    show(made.address)
    if sys.argv[4] == "fail":
        raise RuntimeError("the step failed")
    time.sleep(float(sys.argv[4]))
"""


@pytest.mark.parametrize(
    ("then", "number"), [("0", None), ("fail", None), ("600", signal.SIGTERM), ("600", signal.SIGKILL)]
)
def test_it_is_made_waited_for_and_removed(
    operator: SparkOperator, account: Path, then: str, number: signal.Signals | None
) -> None:
    cluster, namespace = operator.cluster, operator.namespace
    step = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "step"}}
    containers = [{"name": "main", "image": "endcap:1"}]
    cluster.apply({**step, "spec": {"serviceAccountName": ACCOUNT, "containers": containers}}, namespace=namespace)
    spec = section(namespace, executors=3, cores=2, memory="3Gi", spot=True, nodeSelector={"pool": "spark"})
    command = [sys.executable, "-c", HOLDER, spec.model_dump_json(), str(account), namespace, then]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        made = operator.wait_for_application()
        assert made["metadata"]["ownerReferences"][0]["name"] == "step"
        driver, executor = made["spec"]["driver"], made["spec"]["executor"]
        assert (executor["instances"], executor["cores"], executor["memory"]) == (3, 2, "3072m")
        pod = executor["template"]["spec"]
        assert pod["nodeSelector"] == {"pool": "spark"}
        assert "cloud.google.com/gke-spot" in [toleration["key"] for toleration in pod["tolerations"]]
        assert "tolerations" not in driver["template"]["spec"]
        (token,) = driver["template"]["spec"]["containers"][0]["env"]
        assert token["valueFrom"]["secretKeyRef"]["name"] == made["metadata"]["name"]
        eventually(lambda: operator.list_secrets() == [made["metadata"]["name"]])
        secret = cluster.get("secret", made["metadata"]["name"], namespace)["data"]
        assert len(base64.b64decode(secret["SPARK_CONNECT_AUTHENTICATE_TOKEN"])) == 64
        operator.start()
        assert process.stdout is not None
        eventually(lambda: process.stdout.readline().strip() == "sc://10.9.8.7:15002")  # type: ignore[union-attr]
        if number is not None:
            process.send_signal(number)
        process.communicate(timeout=60)
    assert (process.returncode == 0) == (then == "0")
    if number == signal.SIGKILL:
        assert len(operator.list_names()) == 1
        cluster.kubectl("-n", namespace, "delete", "pod", "step", "--grace-period=0", "--force")
    eventually(lambda: operator.list_names() == [])


def fail_at_submission(operator: SparkOperator) -> None:
    operator.set_state("SUBMISSION_FAILED", 'pods "driver" is forbidden: exceeded quota: pods, requested: pods=1')


def fail(operator: SparkOperator) -> None:
    operator.make_driver()
    operator.set_container({"terminated": {"exitCode": 1, "reason": "Error", "message": "no module named endcap"}})
    operator.set_state("FAILED", "driver container failed with ExitCode: 1, Reason: Error")


def pull_no_image(operator: SparkOperator) -> None:
    operator.make_driver(ready=False)
    operator.set_container({"waiting": {"reason": "ImagePullBackOff", "message": "no such host"}})
    operator.set_state("SUBMITTED")


def run_no_executor(operator: SparkOperator) -> None:
    operator.make_driver()
    operator.set_state("RUNNING", executors={"exec-1": "PENDING"})


def rerun(operator: SparkOperator) -> None:
    operator.set_state("PENDING_RERUN")


def remove(operator: SparkOperator) -> None:
    name = operator.wait_for_application()["metadata"]["name"]
    operator.cluster.kubectl("-n", operator.namespace, "delete", "sparkapplication", name)


@pytest.mark.parametrize(
    ("act", "code", "words"),
    [
        (fail_at_submission, "spark.application-failed", "exceeded quota"),
        (fail, "spark.application-failed", "no module named endcap"),
        (remove, "spark.application-failed", "removed"),
        (pull_no_image, "spark.application-not-ready", "ImagePullBackOff"),
        (run_no_executor, "spark.application-not-ready", "1 PENDING"),
        (rerun, "spark.application-not-ready", "PENDING_RERUN"),
        (lambda operator: None, "spark.no-operator", ""),
    ],
)
def test_what_keeps_it_from_starting_is_said_and_it_is_removed(
    operator: SparkOperator,
    account: Path,
    monkeypatch: pytest.MonkeyPatch,
    act: Callable[[SparkOperator], None],
    code: str,
    words: str,
) -> None:
    waits = code != "spark.application-failed"
    monkeypatch.setattr(application, "SEEN_WITHIN", 3.0 if code == "spark.no-operator" else 60.0)
    spec = section(operator.namespace, ready_within="8s" if waits else "2m")
    with (
        ThreadPoolExecutor(1) as pool,
        refused(ClusterError, code) as caught,
        start_application(_connect_and_act(pool, act, operator, account), spec),
    ):
        pass
    assert words in str(caught.value.fields.get("reason", ""))
    assert operator.list_names() == []


def _connect_and_act(
    pool: ThreadPoolExecutor, act: Callable[[SparkOperator], None], operator: SparkOperator, account: Path
) -> Any:
    pool.submit(act, operator)
    return connect(str(account))


@pytest.mark.parametrize(
    ("ended", "code"),
    [({"exitCode": 137, "reason": "OOMKilled"}, "spark.driver-memory"), ({"exitCode": 1}, "spark.went-away")],
)
def test_a_driver_that_ends_during_the_step_says_why(
    operator: SparkOperator, account: Path, ended: dict[str, Any], code: str
) -> None:
    from pyspark.errors.exceptions.connect import SparkConnectGrpcException

    with ThreadPoolExecutor(1) as pool:
        pool.submit(operator.start)
        with start_application(connect(str(account)), section(operator.namespace)) as started:
            assert isinstance(started, SparkApplication)
            operator.set_container({"terminated": ended})
            error: EndcapError | None = explain_failure(SparkConnectGrpcException("UNAVAILABLE"), started)
    assert error is not None
    assert error.code == code


def test_a_cluster_without_the_operators_definitions_says_what_to_install(
    operator: SparkOperator, account: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unknown = type(application.SPARK_APPLICATION)("sparkoperator.k8s.io/v9", "SparkApplication", "sparkapplications")
    monkeypatch.setattr("endcap.cluster.client.find_object_kind", lambda thing: unknown)
    with (
        refused(ClusterError, "cluster.kind-unknown"),
        start_application(connect(str(account)), section(operator.namespace)),
    ):
        pass


@needs_java
@pytest.mark.slow
def test_features_run_through_it(
    operator: SparkOperator, account: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(account))
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC")
    here, there = open_store(str(tmp_path / "duckdb")), open_store(str(tmp_path / "spark"))
    keys: dict[str, Any] = {"filters": {"min_session_events": 2}, "features": {"events": []}}
    log = sessions("abc abd bcd")
    expected = build(shop(**keys), snapshot(here, log), here)
    spark = section(operator.namespace, conf=QUICK, ready_within="5m").model_dump(mode="json")
    keys = {**keys, "features": {"events": [], "engine": "spark"}, "spark": spark}
    address = snapshot(there, log)
    lines: list[str] = []
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(build, shop(**keys), address, there, progress=lines.append)
        with operator.run_driver("127.77.0.1", tmp_path):
            made = future.result(300)
    assert here.manifest(expected)["facts"]["content"] == there.manifest(made)["facts"]["content"]
    assert any("1 of 2 executors run" in line for line in lines)
