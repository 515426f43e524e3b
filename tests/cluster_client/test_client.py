"""The client: goes on where it can, and says in words why it cannot."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from endcap.cluster import (
    AbsentError,
    Cluster,
    ConflictError,
    ForbiddenError,
    KindAbsentError,
    StaleError,
    UnreachableError,
    connect,
    diff_objects,
)
from endcap.cluster.kinds import INFERENCE_SERVICE, POD
from endcap.cluster.watch import watch
from endcap.errors import ClusterError, EndcapError, UserError
from endcap.progress import Notice
from endcap.retries import RetryLimits, send_wait_lines
from tests import refusals
from tests.cluster.certificates import Authority
from tests.cluster_client.fake_api_server import Server, api_server, kubeconfig, pod, refused
from tests.store.proxy import proxy

SERVICE = {
    "apiVersion": "serving.kserve.io/v1beta1",
    "kind": "InferenceService",
    "metadata": {"name": "shoes", "namespace": "shop"},
}


@pytest.fixture
def server() -> Iterator[Server]:
    with api_server() as running:
        yield running


@pytest.fixture
def cluster(server: Server, tmp_path: Path) -> Cluster:
    client = connect(str(kubeconfig(tmp_path, server.port)))
    client._patience = RetryLimits(total=3.0, first=0.01, most=0.05)
    return client


def test_it_goes_on_through_429_500_and_broken_connections(server: Server, cluster: Cluster) -> None:
    server.say(429, refused(429, "too many requests"), Retry_After="1")
    server.say(500, refused(500, "etcdserver: leader changed"), times=2)
    server.say(0, None)
    server.say(200, pod("a", "1"))
    assert cluster.get(POD, "a", "shop")["metadata"]["name"] == "a"
    assert [path for _, path, _ in server.requests] == ["/api/v1/namespaces/shop/pods/a"] * 5


@pytest.mark.slow
def test_an_api_server_that_stays_away_is_said_with_the_last_reason(cluster: Cluster, server: Server) -> None:
    server.say(503, refused(503, "shutting down"), times=1000)
    where = {"verb": "get", "kind": "Pod", "name": "a", "namespace": "shop"}
    reason = "503: shutting down"
    with refusals.refused(UnreachableError, "cluster.unreachable", limit=3.0, reason=reason, **where):
        cluster.get(POD, "a", "shop")


def test_a_server_that_restarts_is_waited_for_and_that_is_shown(cluster: Cluster, server: Server) -> None:
    cluster._patience = RetryLimits(total=3.0, first=0.01, most=0.05, silent=0.0)
    server.say(503, refused(503, "starting"), times=3)
    server.say(200, pod("a", "1"))
    events = list[str]()
    with send_wait_lines(events.append):
        cluster.get(POD, "a", "shop")
    notice, _ = events
    assert isinstance(notice, Notice)
    assert notice.fields == {"reason": "503: starting", "limit": 3.0}


def test_a_login_page_and_a_certificate_of_nobody_are_told_at_once(
    cluster: Cluster, server: Server, tmp_path: Path
) -> None:
    server.say(200, "<html><title>Sign in</title></html>")
    with refusals.refused(ClusterError, "cluster.no-api", title="Sign in"):
        cluster.get(POD, "a", "shop")
    server.say(401, "<html><title>Sign in</title></html>")
    with refusals.refused(ForbiddenError, "cluster.unauthenticated", reason="Sign in"):
        cluster.get(POD, "a", "shop")
    pair = Authority(tmp_path).issue("api", "api", hosts=("127.0.0.1",))
    with proxy(f"http://127.0.0.1:{server.port}", (pair.certificate, pair.key)) as secure:
        file = kubeconfig(tmp_path, server.port)
        file.write_text(file.read_text().replace(f"http://127.0.0.1:{server.port}", secure.endpoint))
        begun = time.monotonic()
        with refusals.refused(ClusterError, "cluster.no-tls", host=secure.endpoint):
            connect(str(file)).get(POD, "a", "shop")
        assert time.monotonic() - begun < 5


def test_nobody_listening_is_waited_for_too(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    away = connect(str(kubeconfig(tmp_path, port)))
    away._patience = RetryLimits(total=0.2, first=0.05)
    with refusals.refused(UnreachableError, "cluster.unreachable", host=f"http://127.0.0.1:{port}"):
        away.get(POD, "a", "shop")


RBAC = (
    'inferenceservices.serving.kserve.io "shoes" is forbidden: User "system:serviceaccount:kubeflow:runner" cannot '
    'patch resource "inferenceservices" in API group "serving.kserve.io" in the namespace "shop"'
)
QUOTA = 'inferenceservices "shoes" is forbidden: exceeded quota: few, requested: count/x=1, used: count/x=5, limited: 5'
WHICH = {"kind": "InferenceService", "name": "shoes", "namespace": "shop"}
MANAGER = {
    "reason": "FieldManagerConflict",
    "message": 'conflict with "kubectl-edit" using serving.kserve.io/v1beta1',
    "field": ".spec.predictor.minReplicas",
}


@pytest.mark.parametrize(
    ("status", "body", "error", "code", "fields"),
    [
        (
            403,
            refused(403, RBAC),
            ForbiddenError,
            "forbidden",
            {
                "who": "system:serviceaccount:kubeflow:runner",
                "verb": "patch",
                "resource": "inferenceservices.serving.kserve.io",
                "namespace": "shop",
            },
        ),
        (403, refused(403, QUOTA), ClusterError, "quota-reached", {"reason": QUOTA.partition("quota: ")[2]}),
        (
            403,
            refused(403, "unable to create new content", causes=[{"reason": "NamespaceTerminating"}]),
            ClusterError,
            "namespace-ending",
            {"namespace": "shop"},
        ),
        (401, refused(401, "Unauthorized"), ForbiddenError, "unauthenticated", {"reason": "Unauthorized"}),
        (404, "404 page not found", KindAbsentError, "kind-unknown", {"kind": "InferenceService"}),
        (404, refused(404, "x not found", name="shoes", kind="inferenceservices"), AbsentError, "not-found", WHICH),
        (
            404,
            refused(404, 'namespaces "shop" not found', name="shop", kind="namespaces"),
            AbsentError,
            "namespace-not-found",
            {"namespace": "shop"},
        ),
        (
            409,
            refused(409, "Apply failed", causes=[MANAGER]),
            ConflictError,
            "conflict",
            {"held": {"kubectl-edit": ["spec.predictor.minReplicas"]}, **WHICH},
        ),
        (409, refused(409, "the object has been modified"), StaleError, "stale", WHICH),
        (
            422,
            refused(422, "spec.predictor: Invalid"),
            ClusterError,
            "refused",
            {"status": 422, "reason": "spec.predictor: Invalid", **WHICH},
        ),
    ],
)
def test_a_refusal_says_who_what_and_where(
    server: Server,
    cluster: Cluster,
    status: int,
    body: object,
    error: type[EndcapError],
    code: str,
    fields: dict[str, Any],
) -> None:
    server.say(status, body)
    with refusals.refused(error, f"cluster.{code}", **fields):
        cluster.apply(SERVICE)


def test_apply_owns_fields_and_may_be_tried(server: Server, cluster: Cluster) -> None:
    server.say(200, SERVICE)
    cluster.apply(SERVICE, dry_run=True)
    method, path, body = server.requests[0]
    assert (method, body) == ("PATCH", SERVICE)
    assert path.startswith("/apis/serving.kserve.io/v1beta1/namespaces/shop/inferenceservices/shoes?")
    assert "fieldManager=endcap" in path
    assert "force=false" in path
    assert "dryRun=All" in path


def test_a_list_is_read_page_by_page(server: Server, cluster: Cluster) -> None:
    server.say(200, {"metadata": {"continue": "more", "resourceVersion": "7"}, "items": [pod("a", "1")]})
    server.say(200, {"metadata": {"resourceVersion": "7"}, "items": [pod("b", "2")]})
    assert [one["metadata"]["name"] for one in cluster.list_objects(POD, "shop", labels="a=b")] == ["a", "b"]
    assert "continue=more" in server.requests[1][1]


def test_a_watch_goes_on_after_a_drop_and_lists_anew_after_410(server: Server, cluster: Cluster) -> None:
    def events(*states: tuple[str, dict[str, object]]) -> str:
        return "".join(json.dumps({"type": kind, "object": one}) + "\n" for kind, one in states)

    server.say(200, {"metadata": {"resourceVersion": "5"}, "items": [pod("a", "1")]})
    server.say(200, events(("MODIFIED", pod("a", "6"))))  # and the server ends the watch
    server.say(0, None)  # a broken connection
    server.say(200, events(("ERROR", refused(410, "too old resource version"))))
    server.say(200, {"metadata": {"resourceVersion": "9"}, "items": [pod("a", "8"), pod("b", "9")]})
    server.say(410, refused(410, "gone"))
    server.say(200, {"metadata": {"resourceVersion": "10"}, "items": []})
    states = []
    for objects in watch(cluster, POD, "shop", seconds=20):
        states.append({one["metadata"]["name"]: one["metadata"]["resourceVersion"] for one in objects})
        if not objects:
            break
    assert states == [{"a": "1"}, {"a": "6"}, {"a": "8", "b": "9"}, {}]
    resumed = [path for _, path, _ in server.requests if "watch=true" in path]
    assert [path.partition("resourceVersion=")[2].partition("&")[0] for path in resumed] == ["5", "6", "6", "9"]


def test_without_a_kubeconfig_or_a_pod_it_says_what_to_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with refusals.refused(UserError, "cluster.no-kubeconfig", path=str(tmp_path / "none")):
        connect()
    file = str(kubeconfig(tmp_path, 1))
    with refusals.refused(UserError, "cluster.kubeconfig-unusable", path=file):
        connect(file, context="elsewhere")


def test_kinds_have_paths() -> None:
    assert POD.path() == "/api/v1/pods"
    assert INFERENCE_SERVICE.path("shop", "shoes").endswith("/v1beta1/namespaces/shop/inferenceservices/shoes")


def test_a_difference_leaves_out_what_the_server_writes() -> None:
    before = {**SERVICE, "metadata": {**SERVICE["metadata"], "resourceVersion": "1"}, "status": {"ready": False}}
    after = {**SERVICE, "spec": {"predictor": {"minReplicas": 2}}}
    assert diff_objects(before, before) == ""
    lines = diff_objects(before, after).splitlines()
    assert lines[:2] == ["--- InferenceService/shoes (now)", "+++ InferenceService/shoes (then)"]
    assert [line for line in lines[2:] if line[0] in "+-"] == ["+spec:", "+  predictor:", "+    minReplicas: 2"]
