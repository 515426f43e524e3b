"""The kill switch on a real API server, KServe and gateway: from the command to the answers of popularity."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from click.testing import CliRunner

from endcap.cli.deploy import command as deploy_command
from endcap.cluster import connect
from endcap.deploy import Deployment, Target, read_state
from endcap.deploy.gateway_settings import GatewaySettings
from endcap.deploy.reconcile import reconcile
from endcap.deploy.state import CanaryTarget, write_state
from endcap.errors import UserError
from endcap.features.vocabulary import Vocabulary
from endcap.models import make
from endcap.models.base import Fitting
from endcap.registry.package import write_package
from endcap.rules import Catalogue
from endcap.spec import Recommender
from endcap.spec.rules import Rules
from endcap.store import Store, open_store
from endcap_serving.names import FALLBACK
from tests.cluster.given import Cluster, eventually
from tests.cluster.object_store import ObjectStore
from tests.cluster.test_deployer import BOTH, SMALL, prepare, started
from tests.deploy.fake_kserve import recommender
from tests.refusals import refused
from tests.serving.conftest import sessions
from tests.serving.pod import Gateway, wait_for

Json = dict[str, Any]
NAME = "shoes"
ITEMS = [f"p{number}" for number in range(50)]
BOUND = 5.0
"""Seconds from the begin of the command, once Python has started, to Envoy's routes."""


@pytest.fixture
def gate(cluster: Cluster, namespace: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with ExitStack() as stack:
        yield Gateway(tmp_path_factory.mktemp("gateway"), cluster.kubeconfig, namespace, stack)


def make_store(object_store: ObjectStore, spec: Recommender, bucket: str) -> tuple[Store, Deployment]:
    """A store in a bucket with packages that can be read, and the desired state: a version, and its list."""
    store = open_store(f"{object_store.make_bucket(bucket)}/endcap")
    model = make(spec.model)
    model.fit(sessions(200, seed=1), len(ITEMS), Fitting(seed=1))
    packages = {}
    for version in ("1", "2"):
        with store.publish(f"packages/{NAME}", version) as draft:
            write_package(
                draft.path,
                model=model,
                vocabulary=Vocabulary(ITEMS),
                items=pa.table({"item": ITEMS}),
                recommender=spec,
                house_rules=Catalogue(Rules(), read_time=0),
                lineage={},
            )
        packages[version] = Target(version=version, package=draft.address)
    desired = Deployment(
        recommender=NAME,
        stable=packages["1"],
        terms=GatewaySettings(popular=("p7", "p8")),
        salt="ab12",
        changed=datetime.now(UTC),
    )
    trial = CanaryTarget(**packages["2"].model_dump(), share=0.1)
    write_state(desired, store)
    return store, desired.model_copy(update={"canary": trial})


def log_in_with_patch_alone(cluster: Cluster, namespace: str, folder: Path) -> Path:
    """A kubeconfig of an account that may patch InferenceServices, and nothing else."""
    cluster.kubectl("-n", namespace, "create", "serviceaccount", "on-call")
    rule = ("--verb=patch", "--resource=inferenceservices.serving.kserve.io")
    cluster.kubectl("-n", namespace, "create", "role", "on-call", *rule)
    who = ("--role=on-call", f"--serviceaccount={namespace}:on-call")
    cluster.kubectl("-n", namespace, "create", "rolebinding", "on-call", *who)
    config = json.loads(cluster.kubectl("config", "view", "--minify", "--raw", "--flatten", "-o", "json").stdout)
    token = cluster.kubectl("-n", namespace, "create", "token", "on-call").stdout.strip()
    config["users"][0]["user"] = {"token": token}
    file = folder / "on-call.kubeconfig"
    file.write_text(yaml.safe_dump(config))
    return file


@pytest.mark.parametrize(("mode", "crds"), BOTH, ids=["Standard", "Knative"])
def test_kill(
    cluster: Cluster,
    namespace: str,
    gate: Gateway,
    object_store: ObjectStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    mode: str,
    crds: tuple[str, ...],
) -> None:
    """It works while a deployment waits for pods that never come, and by an account that may patch alone.

    (The test's name is the namespace's, and a longer one would shorten the baseline's.)
    """
    cluster.needs(*crds)
    if not cluster.simulated():
        pytest.skip("pods would fetch the package from an S3 server of this machine: unset KUBECONFIG")
    for name, value in object_store.environment().items():
        monkeypatch.setenv(name, value)
    prepare(cluster, namespace)
    gate.start()
    spec = recommender(mode=mode, **SMALL)
    client = connect(str(cluster.kubeconfig))
    store, trial = make_store(object_store, spec, f"kill-{mode.lower()}")
    reconcile(spec, lambda: read_state(NAME, store), client, namespace)
    eventually(lambda: len(gate.shares(NAME)) == 1)
    before = started(cluster, namespace)

    # A canary whose pods no node takes: the deployment waits for them.
    nowhere = {"nodeSelector": {"endcap.dev/no-such-node": "true"}}
    stuck = recommender(mode=mode, **SMALL, **({"canary": nowhere} if mode == "Standard" else nowhere))
    write_state(trial, store)
    busy = threading.Thread(target=wait_for_pods, args=(stuck, store, str(cluster.kubeconfig), namespace))
    busy.start()
    eventually(lambda: "2" in started(cluster, namespace))

    def command(*words: str, kubeconfig: Path = cluster.kubeconfig) -> None:
        place = ["--store", store.root, "--namespace", namespace, "--kubeconfig", str(kubeconfig)]
        done = CliRunner().invoke(deploy_command, [NAME, *words, *place])
        assert done.exit_code == 0, done.output

    def leads_to() -> str:
        (route,) = [route["route"] for route in gate.routes() if route["name"] == NAME]
        return str(route.get("cluster", "several"))

    limited = log_in_with_patch_alone(cluster, namespace, tmp_path)
    words = ("--popularity", "--by", "ann", "--why", "prices of last year")
    begun = time.monotonic()
    thrower = threading.Thread(target=command, args=words, kwargs={"kubeconfig": limited})
    thrower.start()
    wait_for(lambda: leads_to() == FALLBACK, "the list answers everyone", BOUND)
    took = time.monotonic() - begun
    answer = gate.ask(NAME, "anybody")
    assert [item["item"] for item in answer.json()["predictions"][0]["items"]] == ["p7", "p8"]
    thrower.join()
    print(f"{mode}: {took:.2f} s from the begin of the command to Envoy's routes")
    switch = read_state(NAME, store).switch
    assert switch is not None
    assert (switch.by, switch.why, switch.package is not None) == ("ann", "prices of last year", True)
    # Another state is desired now, so that the deployment that waits ends.
    busy.join(60)
    assert not busy.is_alive()

    # Whoever may deploy brings popularity's own predictors. Nobody who serves notices.
    write_state(read_state(NAME, store).model_copy(update={"canary": None}), store)
    reconcile(spec, lambda: read_state(NAME, store), client, namespace)
    host = f"{'latest-' * (mode == 'Knative')}shoes--baseline-predictor.{namespace}.svc"
    eventually(lambda: host in leads_to())
    assert started(cluster, namespace)["1"] == before["1"] or mode == "Knative"

    command("--no-popularity")
    eventually(lambda: host not in leads_to() and leads_to() != FALLBACK)
    eventually(lambda: [one["metadata"]["name"] for one in cluster.list("inferenceservices", namespace)] == [NAME])


def wait_for_pods(spec: Recommender, store: Store, kubeconfig: str, namespace: str) -> None:
    """Deploy, and end when another state is desired."""
    with refused(UserError, "deploy.superseded"):
        reconcile(spec, lambda: read_state(NAME, store), connect(kubeconfig), namespace)
