"""What the chart makes of its values."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from endcap.cluster.quantities import parse_quantity
from endcap.pseudonyms import KEY
from tests.chart.conftest import ROOT, Json, Objects, Refused
from tests.chart.test_tls import EVERYWHERE

Render = Callable[..., Objects]
POSTGRESQL = {
    "mlflow": {
        "replicas": 2,
        "backend": {"type": "postgresql", "postgresql": {"existingSecret": "mlflow-db"}},
        "artifacts": {"type": "s3", "destination": "s3://endcap/mlflow"},
    }
}
EVERYTHING: Json = {
    **POSTGRESQL,
    "store": {"create": True, "endpoint": "http://s3.storage:9000", "accessKeyId": "a", "secretAccessKey": "b"},
    "gateway": {
        "autoscaling": {"enabled": True},
        "httpRoute": {"enabled": True, "parentRefs": [{"name": "public", "namespace": "gateways"}]},
        "ingress": {"enabled": True, "hosts": ["ranking.example.com"], "tls": [{"secretName": "t"}]},
        "tolerations": [{"operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "priorityClassName": "serving",
        "nodeSelector": {"pool": "edge"},
        "extraEnv": [{"name": "A", "value": "b"}],
        "podAnnotations": {"a": "b"},
        "podLabels": {"team": "ranking"},
        "access": {
            "secretName": "endcap-access",
            "allowedOrigins": ["https://shop.example.com"],
            "hosts": ["ranking.example.com"],
            "trustedHops": 1,
            "rate": {"requestsPerSecond": 50, "burst": 80},
        },
        "intake": {"enabled": True},
    },
    "online": {"secretName": "online"},
    "intake": {"enabled": True, "shop": "shop", "out": "s3://endcap/intake", "ownedTypes": ["rent", "buy"]},
    "rollouts": {"enabled": True, "store": "s3://endcap/store"},
    "schedules": {
        "enabled": True,
        "store": "s3://endcap/store",
        "specs": {"home": "kind: Recommender"},
        "shops": {"shoes": "kind: Shop"},
        "notifications": {"enabled": True},
        "kfp": {"userNamespace": "kubeflow", "caSecretName": "kfp-ca"},
        "jobs": [{"name": "retention", "cron": "0 4 * * 0", "command": ["endcap", "retention", "apply"]}],
    },
    "imagePullSecrets": [{"name": "registry"}],
    "deployer": {"ownRoute": True, "readNodes": True},
    "monitoring": {"store": {"enabled": True, "address": "s3://endcap/store"}},
}
GIVEN = {"defaults": {}, "postgresql": POSTGRESQL, "everything": EVERYTHING}
CASES = pytest.mark.parametrize("values", GIVEN.values(), ids=GIVEN)
CASES_WITH_TLS = pytest.mark.parametrize("values", [*GIVEN.values(), EVERYWHERE], ids=[*GIVEN, "tls"])
CLUSTER_WIDE = {"Namespace", "ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition"}


def selects(selector: Json, labels: Json) -> bool:
    """Whether a label selector takes these labels; Exists is the one expression that the chart uses."""
    assert set(selector) <= {"matchLabels", "matchExpressions"}
    assert all(one["operator"] == "Exists" for one in selector.get("matchExpressions", []))
    return selector.get("matchLabels", {}).items() <= labels.items() and all(
        one["key"] in labels for one in selector.get("matchExpressions", [])
    )


@CASES_WITH_TLS
def test_every_pod_is_restricted(render: Render, values: Json) -> None:
    pods = list(render(values).pods())
    assert {name for name, _, _ in pods} == {
        "endcap-mlflow",
        "endcap-gateway",
        "endcap-test-mlflow",
        "endcap-test-gateway",
        *(["endcap-intake", "endcap-test-intake"] if "intake" in values else []),
        *(["endcap-store-metrics"] if "monitoring" in values else []),
        *(["endcap-rollouts"] if "rollouts" in values else []),
        *(["endcap-schedules", "endcap-retention"] if "schedules" in values else []),
    }
    for name, _, spec in pods:
        security = spec["securityContext"]
        assert (security["runAsNonRoot"], security["runAsUser"]) == (True, 10001), name
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
        kinds = {"emptyDir", "persistentVolumeClaim", "secret", "configMap", "projected"}
        assert all(kinds & set(volume) for volume in spec.get("volumes", []))
        for container in [*spec.get("initContainers", []), *spec["containers"]]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["limits"]["memory"]
        # Only the xDS service and the rollout controller speak to the API server.
        assert spec.get("automountServiceAccountToken", True) == (name in ("endcap-gateway", "endcap-rollouts"))


@CASES_WITH_TLS
def test_everything_has_its_namespace(render: Render, values: Json) -> None:
    allowed = {"endcap", "endcap-serving", "kubeflow"}
    for one in render(values, ("monitoring.coreos.com/v1",)):
        assert one["kind"] in CLUSTER_WIDE or one["metadata"]["namespace"] in allowed
        assert one["metadata"]["labels"]["app.kubernetes.io/part-of"] == "endcap"


def test_no_right_goes_beyond_a_namespace_unless_asked_for(render: Render) -> None:
    assert [one["kind"] for one in render() if one["kind"] in CLUSTER_WIDE] == ["Namespace"]
    wide = render({"deployer": {"readNodes": True}}).of("ClusterRole")
    assert [rule for role in wide for rule in role["rules"]] == [
        {"apiGroups": [""], "resources": ["nodes", "pods"], "verbs": ["get", "list"]}
    ]
    # Such names are the cluster's: a release `endcap` in another namespace has one of its own.
    assert [role["metadata"]["name"] for role in wide] == ["endcap-endcap-deployer"]


def test_kfps_account_may_write_inferenceservices_and_nothing_else(render: Render) -> None:
    account = {"name": "default-editor", "namespace": "team-a"}
    objects = render({"kfp": {"serviceAccount": account}, "deployer": {"ownRoute": True}})
    writes = {
        (resource, verb)
        for rule in objects.one("Role", "endcap-deployer")["rules"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
        if verb not in ("get", "list", "watch")
    }
    allowed = {("inferenceservices", "create"), ("inferenceservices", "patch")}
    assert writes == allowed | {("httproutes", "create"), ("httproutes", "patch")}
    bound = [one for one in objects.of("RoleBinding") if {"kind": "ServiceAccount", **account} in one["subjects"]]
    assert [one["metadata"]["namespace"] for one in bound] == ["endcap-serving"]
    assert not render({"kfp": {"enabled": False}}).of("RoleBinding")[1:]


def test_kfps_account_may_make_sparkapplications_and_read_no_secret(render: Render) -> None:
    assert not any(role["metadata"]["name"] == "endcap-spark" for role in render().of("Role"))
    objects = render({"kfp": {"sparkApplications": {"enabled": True, "namespace": "sparks"}}})
    role = objects.one("Role", "endcap-spark")
    assert role["metadata"]["namespace"] == "sparks"
    assert {(resource, verb) for rule in role["rules"] for resource in rule["resources"] for verb in rule["verbs"]} == {
        *(("sparkapplications", verb) for verb in ("create", "get", "delete")),
        ("secrets", "create"),
        *(("pods", verb) for verb in ("get", "list")),
    }


def test_the_rollout_controller_has_least_rights_and_kfps_account_may_only_ask(render: Render) -> None:
    objects = render({"rollouts": {"enabled": True, "store": "s3://endcap/store"}})
    rights = {
        (rule["apiGroups"][0], resource): set(rule["verbs"])
        for rule in objects.one("Role", "endcap-rollouts")["rules"]
        for resource in rule["resources"]
    }
    reading = {"get", "list", "watch"}
    writes = {key: verbs - reading for key, verbs in rights.items() if verbs - reading}
    assert writes == {
        ("endcap.dev", "modelrollouts/status"): {"patch"},
        ("serving.kserve.io", "inferenceservices"): {"create", "patch", "delete"},
        ("", "events"): {"create"},
    }
    asks = [rule for rule in objects.one("Role", "endcap-deployer")["rules"] if rule["apiGroups"] == ["endcap.dev"]]
    assert asks == [{"apiGroups": ["endcap.dev"], "resources": ["modelrollouts"], "verbs": ["create"]}]
    lease = objects.one("Role", "endcap-rollouts-own")
    assert lease["metadata"]["namespace"] == "endcap"
    crd = objects.one("CustomResourceDefinition", "modelrollouts.endcap.dev")
    assert crd["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    # Without it neither the kind nor a right to it is there.
    plain = render()
    assert not plain.of("CustomResourceDefinition")
    assert all(rule["apiGroups"] != ["endcap.dev"] for role in plain.of("Role") for rule in role["rules"])
    another = render({"rollouts": {"enabled": True, "store": "s3://endcap/store", "crd": False}})
    assert not another.of("CustomResourceDefinition")


@pytest.mark.parametrize(
    ("values", "age"),
    [
        ({}, "5m"),
        ({"intake": {"enabled": True, "out": "s3://endcap/intake", "segmentAge": "30s"}}, "30s"),
        ({"rollouts": {"intake": "s3://elsewhere/intake", "segmentAge": "1m"}}, "1m"),
    ],
)
def test_the_rollout_controller_knows_how_late_the_intake_writes(
    render: Render, values: dict[str, Any], age: str
) -> None:
    rollouts = {"enabled": True, "store": "s3://endcap/store", **values.get("rollouts", {})}
    pod = render({**values, "rollouts": rollouts}).one("Deployment", "endcap-rollouts")["spec"]["template"]["spec"]
    assert f"--segment-age={age}" in pod["containers"][0]["args"]


def test_sqlite_is_on_a_kept_volume_of_one_server(render: Render) -> None:
    objects = render()
    claim = objects.one("PersistentVolumeClaim", "endcap-mlflow")
    assert claim["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    server = objects.one("Deployment", "endcap-mlflow")["spec"]
    assert (server["replicas"], server["strategy"]) == (1, {"type": "Recreate"})
    volumes = server["template"]["spec"]["volumes"]
    assert {"name": "data", "persistentVolumeClaim": {"claimName": "endcap-mlflow"}} in volumes
    existing = render({"mlflow": {"persistence": {"existingClaim": "mine"}}})
    assert not existing.of("PersistentVolumeClaim")


def test_postgresql_and_s3_come_by_secrets(render: Render) -> None:
    objects = render(POSTGRESQL)
    assert not objects.of("PersistentVolumeClaim")
    server = objects.one("Deployment", "endcap-mlflow")["spec"]
    assert server["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    upgrade, mlflow = server["template"]["spec"]["initContainers"][0], server["template"]["spec"]["containers"][0]
    database = {"name": "MLFLOW_BACKEND_STORE_URI", "valueFrom": {"secretKeyRef": {"name": "mlflow-db", "key": "uri"}}}
    assert upgrade["env"][0] == mlflow["env"][0] == database
    # Kubernetes would write $(…) out into the words that every list of processes shows.
    assert not [word for one in (upgrade, mlflow) for word in [*one["command"], *one["args"]] if "$(" in word]
    assert mlflow["envFrom"] == [{"secretRef": {"name": "endcap-store"}}]
    assert objects.one("PodDisruptionBudget", "endcap-mlflow")


def test_each_program_knows_its_arguments(render: Render) -> None:
    from mlflow.cli import server

    from endcap_serving.gateway import envoy, xds
    from endcap_serving.gateway.access.settings import format_options

    objects = render({"gateway": {"drainSeconds": 12, "concurrency": 3}})
    pod = objects.one("Deployment", "endcap-gateway")["spec"]["template"]["spec"]
    (gateway,) = pod["containers"]
    assert "initContainers" not in pod, "another container's health would be the pod's"
    routing = envoy.parse_arguments(gateway["args"])
    assert (routing.namespace, routing.concurrency) == ("endcap-serving", 3)
    assert routing.xds_memory == 256 * 2**20
    ports = {port["name"]: port["containerPort"] for port in gateway["ports"]}
    assert ports == {"http": routing.port, "metrics": routing.metrics_port}
    assert pod["terminationGracePeriodSeconds"] >= routing.drain_wait + routing.drain_limit + 5
    assert any(Path(routing.state).is_relative_to(mount["mountPath"]) for mount in gateway["volumeMounts"])
    assert routing.intake is None
    everything = render(EVERYTHING)
    pod = everything.one("Deployment", "endcap-gateway")["spec"]["template"]["spec"]
    intake = xds.parse_intake(envoy.parse_arguments(pod["containers"][0]["args"]).intake)
    pods = everything.one("Service", "endcap-intake-pods")
    assert intake.host == f"{pods['metadata']['name']}.{pods['metadata']['namespace']}.svc"
    assert intake.port in [port["port"] for port in pods["spec"]["ports"]]
    # As the container hands it to the xDS service beside Envoy.
    (container,) = pod["containers"]
    everything_given = envoy.parse_arguments(container["args"])
    passed = xds.parse_arguments(["--namespace=shop", *format_options(everything_given)])
    assert (passed.allow_origin, passed.host_name) == (["https://shop.example.com"], ["ranking.example.com"])
    assert (passed.rate.perSecond, passed.rate.burst) == (50, 80)
    assert everything_given.trusted_hops == 1
    (mount,) = [mount for mount in container["volumeMounts"] if mount["name"] == "access"]
    assert str(passed.access) == f"{mount['mountPath']}/access.yaml"
    assert "subPath" not in mount, "which would not follow a change"
    (volume,) = [volume for volume in pod["volumes"] if volume["name"] == "access"]
    assert volume["secret"]["secretName"] == "endcap-access"
    assert "optional" not in volume["secret"], "a pod without its policy does not start"
    assert (routing.access, routing.allow_origin, routing.host_name, routing.rate) == (None, [], [], None)
    assert format_options(routing) == []

    mlflow = objects.one("Deployment", "endcap-mlflow")["spec"]["template"]["spec"]["containers"][0]
    options = server.make_context("server", list(mlflow["args"])).params
    assert (options["host"], options["port"], options["workers"]) == ("0.0.0.0", 5000, "2")


@pytest.mark.parametrize(
    ("envoy", "xds", "wanted"),
    [
        ({}, {}, {"requests": {"cpu": "125m", "memory": "256Mi"}, "limits": {"memory": "768Mi"}}),
        (
            {"requests": {"cpu": 1, "memory": "1Gi"}, "limits": {"cpu": "1.5", "memory": "1G"}},
            {"requests": {"cpu": "0.5", "memory": "100M"}},
            {"requests": {"cpu": "1500m", "memory": "1173741824"}, "limits": {"cpu": "1500m", "memory": "1268435456"}},
        ),
        ({"limits": {"memory": None}}, {}, {"requests": {"cpu": "125m", "memory": "256Mi"}}),
    ],
    ids=["defaults", "of other units", "no limit"],
)
def test_the_gateways_container_gets_what_its_two_programs_ask_for(
    render: Render, envoy: Json, xds: Json, wanted: Json
) -> None:
    objects = render({"gateway": {"resources": envoy, "xds": {"resources": xds}}})
    (container,) = objects.one("Deployment", "endcap-gateway")["spec"]["template"]["spec"]["containers"]
    assert container["resources"] == wanted


def test_the_defaults_fit_a_node_of_two_cores(render: Render) -> None:
    """With room for the cluster's own pods, and for the pod that comes first when the gateway is replaced."""
    pods = {
        one["metadata"]["name"]: (one["spec"]["replicas"], one["spec"]["template"]["spec"]["containers"])
        for one in render().of("Deployment")
    }
    gateways, (gateway,) = pods["endcap-gateway"]
    _, (mlflow,) = pods["endcap-mlflow"]
    predictor = yaml.safe_load((ROOT / "manifests/base/inferenceservice.yaml").read_text())["spec"]["predictor"]
    resources = [gateway["resources"]] * (gateways + 1) + [mlflow["resources"], predictor["model"]["resources"]]
    requests = [{key: parse_quantity(value) for key, value in one["requests"].items()} for one in resources]
    # Of the deploy step's pod: Endcap asks for nothing, KFP's driver before it for so much.
    requests.append({"cpu": 0.1, "memory": 64 * 2**20})
    assert sum(one["cpu"] for one in requests) <= 2 - 0.4
    assert sum(one["memory"] for one in requests) <= 4 * 2**30


def test_the_intakes_paths_at_the_gateway_and_the_gateways_word_are_switches(render: Render) -> None:
    from endcap_serving.gateway import envoy

    intake = {"enabled": True, "out": "s3://endcap/intake"}
    closed = render({"intake": intake})
    pod = closed.one("Deployment", "endcap-gateway")["spec"]["template"]["spec"]
    assert envoy.parse_arguments(pod["containers"][0]["args"]).intake is None
    out = json.dumps(closed.one("NetworkPolicy", "endcap-gateway")["spec"]["egress"])
    assert '"app.kubernetes.io/component": "intake"' not in out
    believing = render({"serving": {"scopeFrom": "gateway"}}).one("ServingRuntime", "endcap")["spec"]["containers"][0]
    assert believing["env"] == [{"name": "ENDCAP_SCOPE_FROM", "value": "gateway"}]
    wrong: list[Json] = [
        {"gateway": {"intake": {"enabled": True}}},
        {"gateway": {"enabled": False}, "serving": {"scopeFrom": "gateway"}},
        {"gateway": {"access": {"allowedOrigins": ["shop.example.com"]}}},
    ]
    for values in wrong:
        with pytest.raises(Refused):
            render(values)


def test_the_intake_has_a_volume_a_pod_and_what_it_needs_by_secrets(render: Render) -> None:
    from endcap.secrets import MOUNT
    from endcap.store.s3_settings import MOUNTED
    from endcap_serving.intake import __main__ as intake

    assert not render().of("StatefulSet")
    objects = render(EVERYTHING)
    spec = objects.one("StatefulSet", "endcap-intake")["spec"]
    (claim,) = spec["volumeClaimTemplates"]
    assert spec["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Retain", "whenScaled": "Retain"}
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    options = intake.parse_arguments(container["args"])
    assert str(options.folder) == mounts[claim["metadata"]["name"]]
    assert (options.out, options.shop, options.owned_types) == ("s3://endcap/intake", "shop", "rent,buy")
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"http": options.port, "metrics": options.metrics_port}
    assert pod["terminationGracePeriodSeconds"] >= options.drain_wait + 30 + 1.25 * options.end_limit
    assert container["envFrom"] == [{"secretRef": {"name": "endcap-store"}}]
    environment = {one["name"]: one for one in container["env"]}
    assert environment[MOUNT]["value"] == mounts["store"] == MOUNTED
    assert environment["ENDCAP_ONLINE"]["valueFrom"]["secretKeyRef"] == {"name": "online", "key": "ENDCAP_ONLINE"}
    runtime = objects.one("ServingRuntime", "endcap")["spec"]["containers"][0]
    assert runtime["env"][0]["valueFrom"]["secretKeyRef"]["optional"]
    assert "env" not in render().one("ServingRuntime", "endcap")["spec"]["containers"][0]
    for policy in ("endcap-intake", "endcap-predictors"):
        out = objects.one("NetworkPolicy", policy)["spec"]["egress"]
        assert 6379 in {port["port"] for rule in out for port in rule["ports"]}
    headless = objects.one("Service", spec["serviceName"])["spec"]
    assert headless["clusterIP"] == "None"
    assert objects.one("Service", "endcap-intake")["spec"]["sessionAffinity"] == "ClientIP"
    limited = render({**EVERYTHING, "intake": {**EVERYTHING["intake"], "keepOwned": "52w"}})
    words = limited.one("StatefulSet", "endcap-intake")["spec"]["template"]["spec"]["containers"][0]["args"]
    assert intake.parse_arguments(words).keep_owned == 52 * 7 * 86_400


def test_mlflow_answers_to_the_names_that_pipelines_use(render: Render) -> None:
    from mlflow.server.security_utils import is_allowed_host_header

    from endcap_pipelines.defaults import REGISTRY

    objects = render({"mlflow": {"allowedHosts": ["mlflow.example.com"]}})
    arguments = objects.one("Deployment", "endcap-mlflow")["spec"]["template"]["spec"]["containers"][0]["args"]
    hosts = next(one for one in arguments if one.startswith("--allowed-hosts=")).partition("=")[2].split(",")
    for host in (REGISTRY.removeprefix("http://"), "endcap-mlflow", "localhost:5001", "mlflow.example.com"):
        assert is_allowed_host_header(hosts, host), host
    for host in ("evil.example.com", "endcap-mlflow.elsewhere:5000"):
        assert not is_allowed_host_header(hosts, host), host


def test_a_digest_wins_over_a_tag(render: Render) -> None:
    def images(values: Json) -> set[str]:
        return {
            container["image"]
            for _, _, spec in render({"image": values}).pods()
            for container in [*spec.get("initContainers", []), *spec["containers"]]
        }

    digest = f"sha256:{'ab' * 32}"
    assert images({}) == {"endcap:0.1.0"}
    assert images({"repository": "r.example.com/endcap", "tag": "1"}) == {"r.example.com/endcap:1"}
    assert images({"tag": "1", "digest": digest}) == {f"endcap@{digest}"}


@CASES
def test_policies_and_budgets_select_the_pods_they_are_for(render: Render, values: Json) -> None:
    objects = render(values)
    policies = {one["metadata"]["name"]: one["spec"] for one in objects.of("NetworkPolicy")}
    deny = policies.pop("endcap-deny")
    assert deny["policyTypes"] == ["Ingress", "Egress"]
    assert not {"ingress", "egress"} & set(deny)
    for name, labels, _ in objects.pods():
        assert selects(deny["podSelector"], labels), name
        selecting = [policy for policy, spec in policies.items() if selects(spec["podSelector"], labels)]
        assert selecting == [f"endcap-{labels['app.kubernetes.io/component']}"]
        budgets = [one for one in objects.of("PodDisruptionBudget") if selects(one["spec"]["selector"], labels)]
        assert len(budgets) == (
            name in ("endcap-gateway", "endcap-intake") or (name == "endcap-mlflow" and values != {})
        )


def test_predictors_are_selected_by_what_the_deployer_labels_them(render: Render) -> None:
    from endcap.deploy.variants import make_labels

    # KServe hands the InferenceService's labels on to its pods, and adds its own.
    pod = {**make_labels("demo"), "serving.kserve.io/inferenceservice": "demo"}
    objects = render()
    for kind in ("NetworkPolicy", "PodDisruptionBudget"):
        spec = objects.one(kind, "endcap-predictors")["spec"]
        assert selects(spec.get("podSelector") or spec["selector"], pod)
        assert not selects(spec.get("podSelector") or spec["selector"], {"serving.kserve.io/inferenceservice": "other"})
    reached = objects.one("NetworkPolicy", "endcap-gateway")["spec"]["egress"][-1]["to"][0]
    assert selects(reached["podSelector"], pod)


def test_predictors_reach_the_store_and_not_mlflow(render: Render) -> None:
    policies = {one["metadata"]["name"]: one["spec"] for one in render().of("NetworkPolicy")}
    ports = {port["port"] for rule in policies["endcap-predictors"]["egress"] for port in rule["ports"]}
    assert ports == {53, 443, 8333, 9000}
    peers = [peer for rule in policies["endcap-mlflow"]["ingress"] for peer in rule["from"]]
    kfp = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kubeflow"}}}
    assert peers == [{"podSelector": {}}, kfp]


def test_runtime_and_account_are_those_of_the_manifests(render: Render) -> None:
    from endcap.deploy.runtime_manifests import render_service_account, render_serving_runtime
    from endcap.spec.kubernetes import KubernetesServingSpec

    secrets = {name: {"secretName": secret} for name, secret in (("online", "redis"), ("pseudonyms", "key"))}
    values = {**secrets, "serving": {"samples": {"secretName": "samples"}}}
    objects = render({"image": {"repository": "r.example.com/endcap", "tag": "1"}, **values})
    runtime = objects.one("ServingRuntime", "endcap")
    expected_runtime = render_serving_runtime("endcap-serving", "r.example.com/endcap:1", "redis", "samples", "key")
    assert runtime["spec"]["containers"][0].pop("imagePullPolicy") == "IfNotPresent"
    account, expected_account = (
        objects.one("ServiceAccount", "endcap-predictor"),
        render_service_account("endcap-serving", KubernetesServingSpec()),
    )
    for rendered, expected in ((runtime, expected_runtime), (account, expected_account)):
        # Helm puts its own name where the deployer has Endcap's.
        assert {key: rendered["metadata"][key] for key in ("name", "namespace")} == {
            key: expected["metadata"][key] for key in ("name", "namespace")
        }
        assert {key: value for key, value in rendered.items() if key != "metadata"} == {
            key: value for key, value in expected.items() if key != "metadata"
        }


def test_metrics_are_read_where_the_cluster_has_the_kind(render: Render) -> None:
    assert not render().of("ServiceMonitor")
    objects = render({"monitoring": {"serviceMonitor": {"labels": {"release": "p"}}}}, ("monitoring.coreos.com/v1",))
    monitor = objects.one("ServiceMonitor", "endcap-gateway")
    assert monitor["metadata"]["labels"]["release"] == "p"
    services = [one for one in objects.of("Service") if selects(monitor["spec"]["selector"], one["metadata"]["labels"])]
    assert [one["metadata"]["name"] for one in services] == ["endcap-gateway-metrics"]
    assert monitor["spec"]["endpoints"][0]["port"] == services[0]["spec"]["ports"][0]["name"]


def test_the_secret_is_made_wherever_it_is_read(render: Render) -> None:
    assert not render().of("Secret")
    secrets = render(EVERYTHING).of("Secret")
    assert [one["metadata"]["namespace"] for one in secrets] == ["endcap", "endcap-serving", "kubeflow"]
    for one in secrets:
        assert one["stringData"]["AWS_ENDPOINT_URL"] == "http://s3.storage:9000"
        assert one["metadata"]["annotations"]["serving.kserve.io/s3-endpoint"] == "s3.storage:9000"
        assert one["metadata"]["annotations"]["serving.kserve.io/s3-usehttps"] == "0"


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"mlflow": {"backend": {"type": "postgresql"}}}, r"existingSecret: found nothing.*kubectl -n endcap create"),
        ({"mlflow": {"replicas": 2}}, "mlflow.replicas: found 2.*sqlite; allowed: 1"),
        (
            {"mlflow": {**POSTGRESQL["mlflow"], "artifacts": {"type": "volume"}}},
            "mlflow.replicas: found 2.*volume; allowed: 1",
        ),
        ({"mlflow": {"artifacts": {"type": "s3"}}}, "mlflow.artifacts.destination: found nothing.*s3://"),
        ({"store": {"create": True, "endpoint": "http://s"}}, "store.accessKeyId: found nothing.*store.create=false"),
        (
            {"gateway": {"autoscaling": {"enabled": True, "minReplicas": 20}}},
            "minReplicas: found 20.*maxReplicas is 10",
        ),
        ({"gateway": {"httpRoute": {"enabled": True}}}, "httpRoute.parentRefs: found nothing"),
        ({"intake": {"enabled": True}}, "intake.out: found nothing.*s3://endcap/intake"),
        ({"rollouts": {"enabled": True}}, "rollouts.store: found nothing.*s3://endcap/store"),
        (
            {"intake": {"enabled": True, "out": "s3://endcap/i"}, "online": {"secretName": "online"}},
            "intake.shop: found nothing, and online.secretName is set",
        ),
        (
            {"intake": {"enabled": True, "out": "s3://endcap/i", "pseudonyms": True}},
            "pseudonyms.secretName: found nothing, and intake.pseudonyms is true",
        ),
        ({"gateway": {"ingress": {"enabled": True}}}, "ingress.hosts: found nothing"),
        ({"mlflow": {"backend": {"type": "mysql"}}}, "'/mlflow/backend/type': value must be one of 'sqlite', 'postgre"),
        ({"gatway": {}}, "additional properties 'gatway' not allowed"),
        ({"gateway": {"replicas": 0}}, "'/gateway/replicas': minimum: got 0, want 1"),
    ],
    ids=lambda value: json.dumps(value)[:60] if isinstance(value, dict) else "",
)
def test_what_does_not_go_together_is_refused_in_words(render: Render, values: Json, says: str) -> None:
    with pytest.raises(Refused, match=re.compile(says, re.DOTALL)):
        render(values)


def test_an_intake_with_pseudonyms_does_not_start_without_their_key(render: Render) -> None:
    intake = {"enabled": True, "out": "s3://endcap/intake", "pseudonyms": True}
    objects = render({"intake": intake, "pseudonyms": {"secretName": "key"}})
    container = objects.one("StatefulSet", "endcap-intake")["spec"]["template"]["spec"]["containers"][0]
    environment = {variable["name"]: variable for variable in container["env"]}
    assert "--pseudonyms" in container["args"]
    # Not optional: the kubelet waits for the Secret.
    assert environment[KEY]["valueFrom"]["secretKeyRef"] == {"name": "key", "key": KEY}
    gateway = objects.one("Deployment", "endcap-gateway")["spec"]["template"]["spec"]["containers"][0]
    assert "--log-shoppers=pseudonym" in gateway["args"]
    assert KEY in {variable["name"] for variable in gateway["env"]}


def test_parts_can_be_left_out(render: Render) -> None:
    off: dict[str, Any] = {part: {"enabled": False} for part in ("mlflow", "gateway", "kfp", "networkPolicy", "tests")}
    off["serving"] = {
        "createNamespace": False,
        "runtime": {"enabled": False},
        "podDisruptionBudget": {"enabled": False},
    }
    off["monitoring"] = {"dashboards": {"enabled": False}}
    assert [(one["kind"], one["metadata"]["name"]) for one in render(off)] == [("ServiceAccount", "endcap-predictor")]
    same = render({"serving": {"namespace": "endcap"}})
    assert not same.of("Namespace")


def test_the_notes_say_the_next_commands(notes: Callable[..., str]) -> None:
    text = notes()
    for command in (
        "kubectl -n endcap rollout status deployment/endcap-gateway",
        "helm -n endcap test endcap",
        "kubectl -n kubeflow create secret generic endcap-store",
        "endcap run trial --on kfp --kfp-namespace kubeflow",
        "run create --experiment-name trial --package-file pipelines/compiled/training.yaml",
        "registry=http://endcap-mlflow.endcap:5000",
        "kubectl -n endcap port-forward service/endcap-gateway 8080:80",
        "kubectl -n endcap delete persistentvolumeclaim endcap-mlflow",
    ):
        assert command in text
    other = notes({**EVERYTHING, "serving": {"namespace": "shops", "createNamespace": False}})
    for piece in (
        "WARNING: who may read this release",
        "the HTTPRoute endcap-gateway",
        "leaves the InferenceServices in",
        "kubectl -n endcap rollout status statefulset/endcap-intake",
        "curl http://localhost:8090/v1/events -H 'content-type: application/json' -d",
        "delete persistentvolumeclaim -l app.kubernetes.io/component=intake,app.kubernetes.io/instance=endcap",
    ):
        assert piece in other
    assert "delete persistentvolumeclaim endcap-mlflow" not in other
    profile = notes({"kfp": {"serviceAccount": {"name": "default-editor", "namespace": "team-a"}}})
    assert "--on kfp --kfp-host https://KUBEFLOW/pipeline --kfp-user-namespace team-a" in profile
    assert "port-forward service/ml-pipeline" not in profile
    assert "intake" not in text


def test_the_notes_commands_are_understood(notes: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    """By Endcap's and by KFP's command line, and what they name is there."""
    from kfp.cli.run import create

    from endcap.cli.run import command as run
    from endcap.spec.load import load

    def words(start: str) -> list[str]:
        line = next(line for line in text.splitlines() if start in line)
        return line.partition(start)[2].split()

    monkeypatch.chdir(ROOT)
    text = notes({"image": {"repository": "r.example.com/endcap"}}).replace("\\\n", " ")
    options = run.make_context("run", words("endcap run ")).params
    assert options["spec"].is_file()
    assert options["registry"] == "http://endcap-mlflow.endcap:5000"
    assert options["sets"] == ("pipeline.image=r.example.com/endcap:0.1.0",)

    options = create.make_context("create", words(" run create ")).params
    package = next(yaml.safe_load_all((ROOT / options["package_file"]).read_text()))
    parameters = package["root"]["inputDefinitions"]["parameters"]
    assert {argument.partition("=")[0] for argument in options["args"]} <= set(parameters)

    # What is asked for a ranking at the end is what both of these make.
    ranking = re.search(r"/v1/models/([^:]+):predict", text)
    assert ranking
    recommender_name = parameters["recommender"]["defaultValue"]["name"]
    assert (
        ranking[1]
        == recommender_name
        == load(run.make_context("run", words("endcap run ")).params["spec"]).recommender.name
    )


def test_monitors_rules_and_dashboards(render: Render) -> None:
    """Prometheus' own kinds only where the cluster has them; their labels are those that alerts select by."""
    operator = ("monitoring.coreos.com/v1",)
    assert not [one for one in render(EVERYTHING) if one["apiVersion"] == operator[0]]
    values = {
        **EVERYTHING,
        "monitoring": {**EVERYTHING["monitoring"], "rules": {"runbookUrl": "https://wiki.example.com/on-call"}},
    }
    objects = render(values, operator)
    pods = objects.one("PodMonitor", "endcap-predictors")["spec"]
    assert pods["namespaceSelector"] == {"matchNames": ["endcap-serving"]}
    predictor = {"app.kubernetes.io/managed-by": "endcap", "serving.kserve.io/inferenceservice": "home-1"}
    assert selects(pods["selector"], predictor)
    runtime = objects.one("ServingRuntime", "endcap")["spec"]["containers"][0]
    assert {port["name"] for port in runtime["ports"]} <= {end["port"] for end in pods["podMetricsEndpoints"]}
    endpoints = [
        *pods["podMetricsEndpoints"],
        *(end for one in objects.of("ServiceMonitor") for end in one["spec"]["endpoints"]),
    ]
    given = {end["relabelings"][0]["replacement"] for end in endpoints}
    rules = objects.one("PrometheusRule", "endcap")["spec"]
    assert given == set(re.findall(r'up\{endcap_component="(\w+)"\}', json.dumps(rules).replace("\\", "")))
    chart = yaml.safe_load((ROOT / "charts" / "endcap" / "monitoring" / "rules.yaml").read_text())
    assert [rule["expr"] for group in rules["groups"] for rule in group["rules"]] == [
        rule["expr"] for group in chart["groups"] for rule in group["rules"]
    ]
    links = [rule["annotations"] for group in rules["groups"] for rule in group["rules"] if "alert" in rule]
    assert all(one["runbook_url"].startswith("https://wiki.example.com/on-call#endcap") for one in links)
    pages = [json.loads(text) for one in objects.of("ConfigMap") for text in one["data"].values() if '"panels"' in text]
    files = sorted((ROOT / "charts" / "endcap" / "monitoring" / "dashboards").glob("*.json"))
    assert pages == [json.loads(file.read_text()) for file in files]
    off = {"monitoring": {kind: {"enabled": False} for kind in ("serviceMonitor", "rules", "dashboards")}}
    kinds = {one["kind"] for one in render({**EVERYTHING, **off}, operator)}
    assert not kinds & {"PodMonitor", "ServiceMonitor", "PrometheusRule"}
