"""What the recommenders of a namespace share: the ServingRuntime of the predictors, and their account."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from endcap import __version__
from endcap.cluster.security import make_container_security
from endcap.deploy.tls import PORT
from endcap.deploy.variants import (
    make_labels,
)
from endcap.online import ONLINE
from endcap.pseudonyms import KEY
from endcap.secrets import MOUNT
from endcap.spec.kubernetes import KubernetesServingSpec

Json = dict[str, Any]
IMAGE = f"endcap:{__version__}"
RUNTIME = "endcap"
FORMAT = {"name": "endcap", "version": "1"}
ONLINE_SECRET = "endcap-online"  # noqa: S105 (a name)
"""The Secret that holds the online store's address, where the manifests' runtime looks for it."""
SAMPLES_SECRET = "endcap-samples"  # noqa: S105 (a name)
"""The Secret that says where request samples go, with the key of their pseudonyms and what the bucket needs."""
SAMPLES_MOUNT = "/var/run/secrets/endcap/samples"
"""Where that Secret's files lie, among them certificates of the bucket's server."""
NAMED = "{{.Name}}"
"""KServe fills in the InferenceService's name."""
PACKAGE = "/mnt/models"
"""Where KServe lays the package."""
DRAIN_WAIT = 5
"""Seconds that a pod that is to end goes on taking requests; of the thirty that Kubernetes gives it."""


def render_serving_runtime(
    namespace: str,
    image: str = IMAGE,
    online: str | None = None,
    samples: str | None = None,
    pseudonyms: str | None = None,
) -> Json:
    """Render the ServingRuntime, one for all recommenders of a namespace.

    Parameters
    ----------
    namespace, image
        Where it lies, and the predictors' image.
    online
        The Secret with the online store's address. Without it, rankings use only what requests carry.
    samples
        The Secret that says where request samples go. Without it, nothing is sampled.
    pseudonyms
        The Secret with the key of the shop's pseudonyms. Without it, versions that were trained on them do not start.
    """
    volumes: list[Json] = [{"name": "tmp", "emptyDir": {}}]
    if samples:
        volumes.append({"name": "samples", "secret": {"secretName": samples, "defaultMode": 0o440, "optional": True}})
    return {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": "ServingRuntime",
        "metadata": make_metadata(RUNTIME, namespace, make_labels(RUNTIME)),
        "spec": {
            "supportedModelFormats": [{**FORMAT, "autoSelect": True}],
            "protocolVersions": ["v1", "v2"],
            "multiModel": False,
            "containers": [_render_container(image, online, samples, pseudonyms)],
            "volumes": volumes,
        },
    }


def render_service_account(namespace: str, serving: KubernetesServingSpec) -> Json:
    """Render the predictors' account. KServe reads packages with the Secret that it names. It has no rights itself."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": make_metadata(serving.service_account, namespace, make_labels(RUNTIME)),
        "secrets": [{"name": serving.secret}],
        "automountServiceAccountToken": False,
    }


def make_start_up_probe(seconds: float, model: str = NAMED) -> Json:
    """Make the probe that waits so many seconds for the model to load. The other probes begin after it."""
    probe = make_readiness_probe(model)
    return {**probe, "failureThreshold": max(1, math.ceil(seconds / probe["periodSeconds"]))}


def make_readiness_probe(model: str = NAMED) -> Json:
    return {"httpGet": _render_probe_call(f"/v2/models/{model}/ready"), "periodSeconds": 5, "timeoutSeconds": 2}


def make_metadata(name: str, namespace: str, marks: Mapping[str, str]) -> Json:
    return {"name": name, "namespace": namespace, "labels": dict(marks)}


def _render_container(image: str, online: str | None, samples: str | None, pseudonyms: str | None) -> Json:
    address = {"name": online, "key": ONLINE, "optional": True}
    variables: list[Json] = [{"name": ONLINE, "valueFrom": {"secretKeyRef": address}}] if online else []
    if pseudonyms:
        variables.append(
            {"name": KEY, "valueFrom": {"secretKeyRef": {"name": pseudonyms, "key": KEY, "optional": True}}}
        )
    mounts: list[Json] = [{"name": "tmp", "mountPath": "/tmp"}]  # noqa: S108 (the pod's own)
    if samples:
        variables.append({"name": MOUNT, "value": SAMPLES_MOUNT})
        mounts.append({"name": "samples", "mountPath": SAMPLES_MOUNT, "readOnly": True})
    return {
        "name": "kserve-container",
        "image": image,
        "command": ["python", "-m", "endcap_serving.predictor"],
        "args": [
            *("--model-name", NAMED, "--package", PACKAGE, "--port", str(PORT)),
            # Until every gateway and Service has heard that the pod is not ready any more.
            *("--drain-wait", str(DRAIN_WAIT)),
        ],
        **({"envFrom": [{"secretRef": {"name": samples, "optional": True}}]} if samples else {}),
        **({"env": variables} if variables else {}),
        # The one name that both Knative and Kubernetes take.
        "ports": [{"name": "http1", "containerPort": PORT, "protocol": "TCP"}],
        "startupProbe": make_start_up_probe(300),
        "readinessProbe": make_readiness_probe(),
        # Slow to judge: a restart costs more than a minute's patience, and readiness has taken it out by then.
        "livenessProbe": {
            "httpGet": _render_probe_call("/v2/health/live"),
            "periodSeconds": 10,
            "timeoutSeconds": 5,
            "failureThreshold": 6,
        },
        "securityContext": make_container_security(),
        "volumeMounts": mounts,
    }


def _render_probe_call(path: str) -> Json:
    return {"path": path, "port": PORT}
