"""Knative Serving's real controller, autoscaler and webhook beside the API server, out of their modules' manifests.

No ingress implementation runs: see ``knative_ingress_stand_in``. The activator is a Deployment of its name whose pods,
as all pods here, run nothing: the autoscaler needs to see its endpoints.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from endcap_serving.local.predictors import find_free_port
from tests.cluster import knative_ingress_stand_in
from tests.cluster.build import module_folder, program
from tests.cluster.control_plane import ControlPlane, wait_until
from tests.cluster.manifests import Object, config_map, documents, leads_to, loopback_service, namespace
from tests.cluster.own_network import wrapped

_NAMESPACE = "knative-serving"
_CONFIG_MAPS = (
    "tracing",
    "defaults",
    "features",
    "autoscaler",
    "domain",
    "leader-election",
    "observability",
    "logging",
)
_CONFIG_MAPS += ("certmanager", "deployment", "gc")
_POD_FEATURES = (
    "affinity",
    "fieldref",
    "init-containers",
    "nodeselector",
    "persistent-volume-claim",
    "securitycontext",
)
_POD_FEATURES += ("tolerations", "topologyspreadconstraints", "volumes-emptydir")


def install(plane: ControlPlane) -> None:
    """CRDs and configuration; returns when the CRDs are established."""
    core, networking, caching = _folders()
    crds = [one for folder in (core / "300-resources", networking, caching) for one in documents(folder)]
    plane.define([crd for crd in crds if crd["kind"] == "CustomResourceDefinition"])
    shipped = [*documents(core / "configmaps"), *documents(networking)]
    settings = {
        "config-deployment": {
            "queue-sidecar-image": "registry.test/knative/queue:1",
            # Nothing here reaches a registry, which Knative would ask for the digest of a tag.
            "registries-skipping-tag-resolving": "registry.test,index.docker.io,ghcr.io,kind.local,ko.local,dev.local",
        },
        # What an InferenceService on GPU nodes needs of Knative; a cluster's administrator must switch it on as well.
        "config-features": {f"kubernetes.podspec-{feature}": "enabled" for feature in _POD_FEATURES},
        "config-network": {"ingress-class": knative_ingress_stand_in.CLASS},
    }
    names = sorted(one["metadata"]["name"] for one in shipped if one["kind"] == "ConfigMap")
    plane.apply([namespace(_NAMESPACE), *(config_map(shipped, name, **settings.get(name, {})) for name in names)])


def start(plane: ControlPlane) -> None:
    """Start the three programs and the ingress stand-in; returns when the webhook admits a Service of Knative's."""
    core, _, _ = _folders()
    plane.keeper.start(
        "knative-ingress-stand-in",
        [sys.executable, "-m", knative_ingress_stand_in.__name__, str(plane.kubeconfig)],
    )
    activator = documents(core / "deployments" / "activator.yaml")
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "activator", "namespace": _NAMESPACE}}
    plane.apply([account, *(one for one in activator if one["kind"] in ("Deployment", "Service"))])
    port = find_free_port()
    plane.apply([loopback_service("webhook", _NAMESPACE), *documents(core / "webhooks" / "secret.yaml")])
    plane.apply([leads_to(hook, _NAMESPACE, "webhook", port) for hook in _hooks(core)])
    environment = {
        "KUBECONFIG": str(plane.kubeconfig),
        "SYSTEM_NAMESPACE": _NAMESPACE,
        "CONFIG_LOGGING_NAME": "config-logging",
        "CONFIG_OBSERVABILITY_NAME": "config-observability",
        "POD_IP": "192.0.2.1",  # an address of documentation: loopback is refused in Endpoints
        "WEBHOOK_NAME": "webhook",
        "WEBHOOK_PORT": str(port),
    }
    for name, in_ in (("webhook", (port,)), ("controller", ()), ("autoscaler", ())):
        command = wrapped([program("knative", name)], out=(plane.port,), in_=in_)
        plane.keeper.start(f"knative-{name}", command, environment | {"POD_NAME": name})
    wait_until(lambda: _admits(plane), "Knative's webhook does not answer", plane.keeper.log("knative-webhook"))


def _hooks(core: Path) -> list[Object]:
    files = ("configmap-validation", "defaulting", "resource-validation")
    return [hook for file in files for hook in documents(core / "webhooks" / f"{file}.yaml")]


def _folders() -> tuple[Path, Path, Path]:
    """The configuration of serving, networking and caching, in the versions that one module pins."""
    serving, networking, caching = (
        module_folder("knative", f"knative.dev/{name}") / "config" for name in ("serving", "networking", "caching")
    )
    return serving / "core", networking, caching


def _admits(plane: ControlPlane) -> bool:
    probe: Object = {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {"name": "probe", "namespace": "default"},
        "spec": {"template": {"spec": {"containers": [{"image": "registry.test/probe:1"}]}}},
    }
    try:
        made = plane.kubectl("create", "--dry-run=server", "-o", "json", "-f", "-", stdin=json.dumps(probe))
    except RuntimeError:
        return False
    # Its webhook writes down who made a Service: without that, nobody was asked.
    return "serving.knative.dev/creator" in json.loads(made)["metadata"].get("annotations", {})
