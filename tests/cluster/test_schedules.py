"""The chart's schedulers on a real API server, with KFP's API on loopback and a real bucket.

KWOK's nodes run no containers, so the commands of pods are run here, each as its pod has it (`tests.cluster.pods`), on
ports that are free. CronJobs are the real controller's.
"""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from endcap.schedules.ledger import ScheduleLedger, read_ledger
from endcap.schedules.webhook import TOKEN
from endcap.store import open_store
from endcap_serving.local.predictors import find_free_port
from tests.chart.test_schedules import HOME, SHOP
from tests.cluster import pods
from tests.cluster.given import Cluster, eventually, own_namespace
from tests.cluster.object_store import ObjectStore
from tests.kfp.namespaces import User
from tests.kfp.server import Kfp, scene
from tests.registry.server import running_mlflow

CHART = str(Path(__file__).parents[2] / "charts" / "endcap")
AUDIENCE = "pipelines.kubeflow.org"
REGISTRY = "http://mlflow.example.com"
SENDERS = "0123456789abcdef0123"
DONE = scene("SUCCEEDED", {"ingest": "SUCCEEDED"})
Json = dict[str, Any]


@dataclass
class Release:
    """A release in a namespace of the restricted standard, and a profile in which KFP's runs are."""

    cluster: Cluster
    object_store: ObjectStore
    namespace: str
    profile: str
    folder: Path
    kfp: Kfp
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def store(self) -> str:
        return f"{self.object_store.make_bucket('schedules')}/{self.namespace}"

    @property
    def log(self) -> str:
        return f"{self.object_store.make_bucket('schedules')}/log-{self.namespace}"

    def install(self, registry: str, **schedules: Any) -> None:
        off = {"enabled": False}
        values = {
            **dict.fromkeys(("mlflow", "gateway", "kfp", "tests"), off),
            "serving": {"namespace": self.namespace, "createNamespace": False, "runtime": off},
            "schedules": {
                "enabled": True,
                "store": self.store,
                "registry": registry,
                "specs": {"home": HOME},
                "shops": {"shoes": SHOP.replace("s3://log/shoes", self.log)},
                "kfp": {"host": self.kfp.url, "userNamespace": self.profile},
                **schedules,
            },
        }
        words = ("-n", self.namespace, "install", "endcap", CHART, "--values", "-", "--wait", "--timeout=120s")
        self.cluster.helm(*words, stdin=json.dumps(values))

    def write_day(self, day: int) -> str:
        """Put a day's events into the bucket; the object's name."""
        from minio import Minio

        host = self.object_store.endpoint.removeprefix("http://")
        client = Minio(
            host, access_key=self.object_store.access_key, secret_key=self.object_store.secret_key, secure=False
        )
        bucket, _, prefix = self.log.removeprefix("s3://").partition("/")
        file = self.folder / "day.csv"
        file.write_text(f"session,item,time,type\ns1,i1,2026-03-{day:02}T00:00:00Z,view\n")
        client.fput_object(bucket, f"{prefix}/{day:02}.csv", str(file))
        return f"{prefix}/{day:02}.csv"

    def make_command(self, pod: Json, words: Sequence[str], **places: str) -> tuple[list[str], Path]:
        """A container's command with its variables and mounts, and the folder that stands for its own.

        places: variables with addresses that a process of this machine reaches.
        """
        spec = pod["spec"]
        (container,) = spec["containers"]
        folder = self.folder / f"pod-{len(list(self.folder.glob('pod-*')))}"
        folder.mkdir()
        given = pods.environment(self.cluster, self.namespace, container["env"])
        for source in container["envFrom"]:
            given |= pods.secret(self.cluster, self.namespace, source["secretRef"]["name"])
        del given["HOME"]  # the pod's own /tmp, which all processes of this machine share
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        mounts = {}
        for mount in container["volumeMounts"]:
            place, volume = Path(mount["mountPath"]), volumes[mount["name"]]
            if "configMap" in volume:
                self._write_specs(folder / place.relative_to(container["workingDir"]), volume["configMap"])
            elif "secret" in volume or "projected" in volume:
                mounts[str(place)] = folder / mount["name"]
                mounts[str(place)].mkdir()
                self._write_files(mounts[str(place)], volume)
        assert set(places) <= set(given)
        return pods.command(words, {**given, **places}, mounts, folder), folder

    def start(self, pod: Json) -> tuple[str, str]:
        """Start a scheduler as its pod does; the addresses of its webhook and of its page."""
        (container,) = pod["spec"]["containers"]
        ports = {port["name"]: (port["containerPort"], find_free_port()) for port in container["ports"]}
        words = [*container["command"], *container["args"]]
        for old, new in ports.values():
            words = [word.replace(f"0.0.0.0:{old}", f"127.0.0.1:{new}") for word in words]
        command, folder = self.make_command(pod, words)
        with (folder / "log").open("wb") as log:
            self.processes.append(subprocess.Popen(command, cwd=folder, stdout=log, stderr=log))
        return tuple(f"http://127.0.0.1:{ports[name][1]}" for name in ("notifications", "page"))  # type: ignore[return-value]

    def run(self, pod: Json, **places: str) -> str:
        """Run a job's container to its end; what it printed."""
        (container,) = pod["spec"]["containers"]
        command, folder = self.make_command(pod, [*container["command"], *container.get("args", [])], **places)
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def read_ledger(self) -> ScheduleLedger:
        return read_ledger(open_store(self.store), "home", "train")

    def list_pods(self, component: str) -> list[Json]:
        return self.cluster.list("pods", self.namespace, f"app.kubernetes.io/component={component}")

    def let_in(self) -> str:
        """Make the account's token, which KFP then takes in the namespaces where the API server says so; the token."""
        token = self.cluster.kubectl(
            "-n", self.namespace, "create", "token", "endcap-schedules", f"--audience={AUDIENCE}"
        ).stdout.strip()
        name = f"system:serviceaccount:{self.namespace}:endcap-schedules"
        allowed = frozenset(place for place in (self.namespace, self.profile) if self.may("create", "runs", place))
        self.kfp.rules.multi_user = True
        self.kfp.rules.users[token] = User(name, allowed)
        return token

    def may(self, verb: str, resource: str, namespace: str, group: str = AUDIENCE) -> bool:
        """Whether the schedulers' account may, as KFP asks the API server."""
        asked = {"namespace": namespace, "verb": verb, "group": group, "resource": resource}
        user = f"system:serviceaccount:{self.namespace}:endcap-schedules"
        return bool(
            self._review("authorization", "SubjectAccessReview", user=user, resourceAttributes=asked)["allowed"]
        )

    def takes(self, token: str, audiences: list[str]) -> bool:
        """Whether a token is somebody's, for these audiences; for none: for the API server."""
        return bool(
            self._review("authentication", "TokenReview", token=token, audiences=audiences).get("authenticated")
        )

    def _review(self, group: str, kind: str, **spec: Any) -> Json:
        review = {"apiVersion": f"{group}.k8s.io/v1", "kind": kind, "spec": spec}
        said = self.cluster.kubectl("create", "-f", "-", "-o", "json", stdin=json.dumps(review)).stdout
        return dict(json.loads(said)["status"])

    def _write_specs(self, folder: Path, volume: Json) -> None:
        data = self.cluster.get("configmap", volume["name"], self.namespace)["data"]
        for entry in volume["items"]:
            (folder / entry["path"]).parent.mkdir(parents=True, exist_ok=True)
            (folder / entry["path"]).write_text(data[entry["key"]])

    def _write_files(self, folder: Path, volume: Json) -> None:
        if "secret" in volume:
            for key, value in pods.secret(self.cluster, self.namespace, volume["secret"]["secretName"]).items():
                (folder / key).write_text(value)
            return
        (source,) = volume["projected"]["sources"]
        assert source["serviceAccountToken"]["audience"] == AUDIENCE
        (folder / source["serviceAccountToken"]["path"]).write_text(self.let_in())


@pytest.fixture
def release(
    cluster: Cluster, object_store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Release]:
    if not cluster.simulated():
        pytest.skip("the cluster's nodes would run the pods, which cannot reach the servers of this machine")
    for name, value in object_store.environment().items():
        monkeypatch.setenv(name, value)
    with own_namespace(cluster, "schedules") as namespace, own_namespace(cluster, "profile") as profile, Kfp() as kfp:
        cluster.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
        secrets = {"endcap-store": object_store.environment(), "endcap-schedule-token": {TOKEN: SENDERS}}
        cluster.apply(
            *(
                {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": keys}
                for name, keys in secrets.items()
            ),
            namespace=namespace,
        )
        kfp.token = "of nobody"
        kfp.scenes = [DONE]
        made = Release(cluster, object_store, namespace, profile, tmp_path, kfp)
        try:
            yield made
        finally:
            for process in made.processes:
                end(process)


def end(process: subprocess.Popen[bytes]) -> int:
    """End a scheduler. The process that was started is a shell's no longer: it became the command itself."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    return process.wait(60)


def test_a_notification_starts_one_run_of_two_schedulers(release: Release) -> None:
    release.install(REGISTRY, replicas=2, notifications={"enabled": True})
    started = release.list_pods("schedules")
    assert len(started) == 2
    assert not any(pod["spec"]["automountServiceAccountToken"] for pod in started)
    for verb, resource in (("create", "runs"), ("list", "runs"), ("terminate", "runs"), ("create", "pipelines")):
        assert release.may(verb, resource, release.profile), (verb, resource)
    assert not release.may("delete", "runs", release.profile)
    assert not release.may("create", "runs", release.namespace)
    assert not release.may("get", "secrets", release.namespace, group="")
    token = release.let_in()
    assert release.takes(token, [AUDIENCE])
    assert not release.takes(token, [])

    addresses = [release.start(pod) for pod in started]
    for _, page in addresses:
        eventually(lambda page=page: "\nendcap_scheduler_look_seconds " in read_page(page), 120)
        assert httpx.get(f"{page}/healthz").status_code == 200
    assert release.kfp.runs == []

    name = release.write_day(1)
    body = {"Records": [make_record(*f"schedules/{name}".split("/", 1))]}
    webhook = f"{addresses[0][0]}/notifications"
    assert httpx.post(webhook, json=body).status_code == 401
    assert httpx.post(webhook, json=body, headers={"authorization": f"Bearer {SENDERS}"}).json() == {"woken": ["shoes"]}
    eventually(lambda: release.kfp.runs, 120)
    (run,) = release.kfp.runs
    given = run["runtime_config"]["parameters"]
    assert (given["store"], given["registry"]) == (release.store, REGISTRY)
    assert [experiment["namespace"] for experiment in release.kfp.experiments] == [release.profile]
    eventually(lambda: release.read_ledger().counts.get("succeeded"), 120)
    assert release.read_ledger().claim is None
    assert len(release.kfp.runs) == 1
    assert 'endcap_scheduler_notifications_total{outcome="forged"} 1.0' in read_page(addresses[0][1])
    assert [end(process) for process in release.processes] == [0, 0]


def test_cron_jobs_do_what_is_due_and_run_commands(release: Release, tmp_path: Path, empty_registry: Path) -> None:
    retention = {"name": "retention", "cron": "* * * * *", "command": ["endcap", "retention", "apply"]}
    folder = tmp_path / "mlflow"
    folder.mkdir()
    with running_mlflow(folder, empty_registry) as registry:
        release.install(REGISTRY, mode="cronjob", every="* * * * *", jobs=[retention])
        release.write_day(1)
        jobs = eventually(lambda: list_jobs(release), 180)
        assert {owner for owner, _ in jobs} == {"endcap-schedules", "endcap-retention"}
        (scheduler, *_), (command, *_) = (
            eventually(lambda component=component: release.list_pods(component))
            for component in ("schedules", "schedules-jobs")
        )
        release.run(scheduler)
        assert len(release.kfp.runs) == 1
        assert release.read_ledger().counts["succeeded"] == 1
        # The next job meets the same data.
        release.run(scheduler)
        assert len(release.kfp.runs) == 1
        assert "removed" in release.run(command, ENDCAP_REGISTRY=registry)
        assert release.read_ledger().counts["succeeded"] == 1
        eventually(lambda: any(job["status"].get("succeeded") for _, job in list_jobs(release)), 120)


def list_jobs(release: Release) -> list[tuple[str, Json]]:
    """The jobs that a CronJob of each kind owns, once there is one of each."""
    jobs = [
        (owner["name"], job)
        for job in release.cluster.list("jobs", release.namespace)
        for owner in job["metadata"].get("ownerReferences", [])
        if owner["kind"] == "CronJob"
    ]
    return jobs if len({owner for owner, _ in jobs}) == 2 else []


def read_page(address: str) -> str:
    try:
        return httpx.get(f"{address}/metrics").text
    except httpx.TransportError:
        return ""


def make_record(bucket: str, name: str) -> Json:
    """A record of S3's that says that an object was put."""
    return {
        "eventSource": "aws:s3",
        "eventName": "ObjectCreated:Put",
        "eventTime": "2026-03-02T03:00:00.000Z",
        "s3": {
            "bucket": {"name": bucket},
            "object": {"key": name, "size": 7, "eTag": "e1", "sequencer": "0055AED6DCD90281E5"},
        },
    }
