"""Envoy Gateway's real controller beside the API server: the Gateway API implementation of the test cluster.

It accepts Gateways and HTTPRoutes, says so in their status, and makes the Deployments of its proxies. Their pods, as
all pods here, run nothing: the tests claim what the controller accepts and writes down, and no request's way.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess

import yaml

from tests.cluster.build import module_folder, program
from tests.cluster.control_plane import ControlPlane, wait_until
from tests.cluster.kserve import GATEWAY, GATEWAY_NAMESPACE
from tests.cluster.manifests import Object, documents, namespace
from tests.cluster.own_network import wrapped

_NAMESPACE, _CLASS = "envoy-gateway-system", "envoy-gateway"
_CONTROLLER = "gateway.envoyproxy.io/gatewayclass-controller"
_CRDS = ("charts", "gateway-helm", "charts", "crds", "crds", "generated")


def start(plane: ControlPlane) -> None:
    """Start the controller and make the Gateway of KServe's HTTPRoutes; returns when that Gateway is programmed."""
    plane.define(documents(module_folder("envoy-gateway", "github.com/envoyproxy/gateway").joinpath(*_CRDS)))
    plane.apply([namespace(_NAMESPACE)])
    folder = plane.folder / "envoy-gateway"
    certificates = folder / "certs"
    certificates.mkdir(parents=True)
    environment = {"KUBECONFIG": str(plane.kubeconfig), "ENVOY_GATEWAY_NAMESPACE": _NAMESPACE}
    # Its own command makes the secrets of the controller and of its proxies, as the chart's job does.
    subprocess.run(
        [program("envoy-gateway", "envoy-gateway"), "certgen", "--disable-topology-injector"],
        env={**os.environ, **environment},
        check=True,
        capture_output=True,
    )
    secret = json.loads(plane.kubectl("-n", _NAMESPACE, "get", "secret", "envoy-gateway", "-o", "json"))
    for name, data in secret["data"].items():
        (certificates / name).write_bytes(base64.b64decode(data))
    settings = folder / "envoy-gateway.yaml"
    settings.write_text(yaml.safe_dump(_settings()))
    command = [program("envoy-gateway", "envoy-gateway"), "server", f"--config-path={settings}"]
    # It reads its certificate in /certs, wherever it runs.
    command = wrapped(command, out=(plane.port,), bind={"/certs": certificates})
    plane.keeper.start("envoy-gateway", command, environment)
    plane.apply([*_gateway_class(), _gateway()])
    wait_until(lambda: _programmed(plane), "the Gateway is not programmed", plane.keeper.log("envoy-gateway"))


def _settings() -> Object:
    kubernetes = {"leaderElection": {"disable": True}, "proxyTopologyInjector": {"disabled": True}}
    return {
        "apiVersion": "gateway.envoyproxy.io/v1alpha1",
        "kind": "EnvoyGateway",
        "gateway": {"controllerName": _CONTROLLER},
        "provider": {"type": "Kubernetes", "kubernetes": kubernetes},
    }


def _gateway_class() -> list[Object]:
    """A class whose proxies have a Service of type ClusterIP: nobody here hands out a load balancer's address."""
    proxy = {
        "apiVersion": "gateway.envoyproxy.io/v1alpha1",
        "kind": "EnvoyProxy",
        "metadata": {"name": "test", "namespace": _NAMESPACE},
        "spec": {"provider": {"type": "Kubernetes", "kubernetes": {"envoyService": {"type": "ClusterIP"}}}},
    }
    parameters = {"group": "gateway.envoyproxy.io", "kind": "EnvoyProxy", "name": "test", "namespace": _NAMESPACE}
    offered = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "GatewayClass",
        "metadata": {"name": _CLASS},
        "spec": {"controllerName": _CONTROLLER, "parametersRef": parameters},
    }
    return [proxy, offered]


def _gateway() -> Object:
    http = {"name": "http", "protocol": "HTTP", "port": 80, "allowedRoutes": {"namespaces": {"from": "All"}}}
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {"name": GATEWAY, "namespace": GATEWAY_NAMESPACE},
        "spec": {"gatewayClassName": _CLASS, "listeners": [http]},
    }


def _programmed(plane: ControlPlane) -> bool:
    said = json.loads(plane.kubectl("-n", GATEWAY_NAMESPACE, "get", "gateway", GATEWAY, "-o", "json"))
    conditions = said.get("status", {}).get("conditions", [])
    return any(one["type"] == "Programmed" and one["status"] == "True" for one in conditions)
