"""KServe's real controller and webhooks beside the API server, set up out of its module's own manifests.

One KServe for both modes: an InferenceService's annotation ``serving.kserve.io/deploymentMode`` chooses.
"""

from __future__ import annotations

import base64
import json

import yaml

from endcap_serving.local.predictors import find_free_port
from tests.cluster.build import module_folder, program
from tests.cluster.control_plane import ControlPlane, wait_until
from tests.cluster.manifests import Object, config_map, documents, leads_to, loopback_service, namespace
from tests.cluster.own_network import wrapped

_MODULE, _GATEWAY_API = "github.com/kserve/kserve", "sigs.k8s.io/gateway-api"
_SERVICE = "kserve-webhook-server-service"
GATEWAY_NAMESPACE, GATEWAY = "kserve", "kserve-ingress-gateway"
"""The Gateway on which KServe puts its HTTPRoutes."""


def install(plane: ControlPlane) -> None:
    """CRDs (the Gateway API's too) and configuration; returns when the CRDs are established.

    KServe's controller looks once, at its start, which CRDs there are: Knative's must be there before `start`.
    """
    config = module_folder("kserve", _MODULE) / "config"
    gateway_api = module_folder("kserve", _GATEWAY_API) / "config" / "crd" / "standard"
    folders = (gateway_api, config / "crd" / "full", config / "crd" / "full" / "clusterstoragecontainer")
    plane.define([crd for folder in folders for crd in documents(folder)])
    initializer = documents(config / "storagecontainers" / "default.yaml")[0]
    initializer["spec"]["container"]["image"] = "kserve/storage-initializer:v0.20.0"
    # As KServe's own chart has it: without, a restricted namespace refuses every predictor with a package.
    values = yaml.safe_load((config.parent / "charts" / "kserve-resources" / "values.yaml").read_text())
    initializer["spec"]["container"]["securityContext"] = values["kserve"]["storage"]["containerSecurityContext"]
    settings = documents(config / "configmap" / "inferenceservice.yaml")
    shipped = config_map(settings, "inferenceservice-config")["data"]
    ingress = json.loads(shipped["ingress"]) | {
        "enableGatewayApi": True,
        "kserveIngressGateway": f"{GATEWAY_NAMESPACE}/{GATEWAY}",
        "disableIstioVirtualHost": True,
    }
    deploy = json.loads(shipped["deploy"]) | {"defaultDeploymentMode": "Standard"}
    chosen = {"ingress": json.dumps(ingress), "deploy": json.dumps(deploy)}
    plane.apply([namespace("kserve"), initializer, config_map(settings, "inferenceservice-config", **chosen)])


def start(plane: ControlPlane) -> None:
    """Start the controller and lead the API server's webhook calls to it; returns when it admits an object."""
    port = find_free_port()
    host = f"{_SERVICE}.kserve.svc"
    pair = plane.authority.issue("kserve-webhook", host, hosts=(host,))
    serving = plane.folder / "kserve" / "k8s-webhook-server" / "serving-certs"
    serving.mkdir(parents=True)
    (serving / "tls.crt").write_bytes(pair.certificate.read_bytes())
    (serving / "tls.key").write_bytes(pair.key.read_bytes())
    flags = [f"--webhook-port={port}", f"--metrics-addr=127.0.0.1:{find_free_port()}", "--health-probe-addr=0"]
    environment = {
        "KUBECONFIG": str(plane.kubeconfig),
        "POD_NAMESPACE": "kserve",
        "TMPDIR": str(plane.folder / "kserve"),  # where it looks for its certificate
    }
    command = wrapped([program("kserve", "manager"), *flags], out=(plane.port,), in_=(port,))
    plane.keeper.start("kserve", command, environment)
    authority = base64.b64encode(plane.authority.certificate.read_bytes()).decode()
    hooks = documents(module_folder("kserve", _MODULE) / "config" / "webhook" / "manifests.yaml")
    plane.apply([loopback_service(_SERVICE, "kserve")])
    plane.apply([leads_to(hook, "kserve", _SERVICE, port, authority) for hook in hooks])
    wait_until(lambda: _admits(plane), "KServe's webhooks do not answer", plane.keeper.log("kserve"))


def _admits(plane: ControlPlane) -> bool:
    probe: Object = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "probe", "namespace": "default"},
        "spec": {"predictor": {"containers": [{"name": "kserve-container", "image": "registry.test/probe:1"}]}},
    }
    try:
        plane.kubectl("create", "--dry-run=server", "-f", "-", stdin=json.dumps(probe))
    except RuntimeError:
        return False
    return True
