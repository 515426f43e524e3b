"""The predictors of a version: their container, pods, scaling and annotations."""

from __future__ import annotations

import math
from typing import Any

from endcap import devices
from endcap.cluster.security import make_pod_security
from endcap.deploy.object_names import name_predictor
from endcap.deploy.runtime_manifests import FORMAT, NAMED, RUNTIME, make_start_up_probe
from endcap.deploy.state import Target
from endcap.deploy.tls import PredictorTransport, choose_transport
from endcap.deploy.variants import (
    MASK,
    VERSION,
    Mode,
)
from endcap.errors import UserError
from endcap.spec import Recommender
from endcap.spec.kubernetes import KubernetesServingSpec
from endcap.spec.pod import Pod
from endcap.store import fingerprint

Json = dict[str, Any]
TEMPLATE = "endcap.dev/template"
"""Of a predictor: the fingerprint of how it was rendered."""


def render_predictor(
    recommender: Recommender,
    mode: Mode,
    target: Target,
    *,
    named: bool = True,
    transport: PredictorTransport | None = None,
) -> Json:
    """Render the predictor of a version.

    Parameters
    ----------
    recommender, mode, target
        The spec, KServe's mode, and the version.
    named
        Give it a name of the version's own, which a canary in Standard mode needs.
    transport
        None: as the spec says.

    Returns
    -------
    dict
        `spec.predictor` of an InferenceService.

    Raises
    ------
    UserError
        The package lies in a folder of some machine.
    """
    serving = recommender.serving.kubernetes
    transport = choose_transport(serving, mode) if transport is None else transport
    pods = {
        **({"name": name_predictor(target)} if mode == "Standard" and named else {}),
        "model": transport.add_to_model(render_model(serving, serving, target)),
        **render_pod(serving, serving, mode, recommender.name),
        **transport.pod_fields,
    }
    scaling = make_scaling(serving, mode)
    # Knative makes a revision of either; a Deployment's pods go on when only their number changes.
    template = {**pods, **scaling} if mode == "Knative" else pods
    return {**pods, **scaling, "annotations": {**make_marks(template, target), **transport.annotations}}


def render_canary_entry(
    recommender: Recommender, target: Target, share: float, *, transport: PredictorTransport | None = None
) -> Json:
    """Render the canary predictor beside the stable one, for Standard mode.

    KServe merges it over the stable predictor: what differs must be set, and keys of a mapping cannot be removed. It
    does not scale: its pods are the share of `replicas.min`, at least one.
    """
    serving = recommender.serving.kubernetes
    transport = choose_transport(serving, "Standard") if transport is None else transport
    pod = serving.canary or serving
    if serving.gpu is not None and pod.gpu is None:
        pod = pod.model_copy(update={"gpu": serving.gpu.model_copy(update={"count": 0})})
    rendered = {
        "name": name_predictor(target),
        "model": transport.add_to_model(render_model(serving, pod, target)),
        **render_pod(serving, pod, "Standard", recommender.name),
        **transport.pod_fields,
    }
    annotations = {**make_marks(rendered, target), **transport.annotations}
    marked = {**rendered, "minReplicas": count_canary_pods(serving, share), "annotations": annotations}
    return {"predictor": marked, "trafficPercent": round(100 * share)}


def count_canary_pods(serving: KubernetesServingSpec, share: float) -> int:
    """Standard mode: count the pods of a canary with this share."""
    return max(1, math.ceil(serving.replicas.min * share))


def make_resources(pod: Pod) -> Json:
    """Make the requests and limits of a predictor's container.

    Each request has a limit, since KServe would fill in its own, which may be lower.
    """
    cpu, memory = pod.cpu or "1", pod.memory or "2Gi"
    limits = {"cpu": pod.cpu_limit or cpu, "memory": pod.memory_limit or memory}
    requests = {"cpu": cpu, "memory": memory}
    if pod.gpu is not None:
        # Said also when it is none: a canary would inherit the stable's.
        limits[pod.gpu.resource] = requests[pod.gpu.resource] = str(pod.gpu.count)
    return {"requests": requests, "limits": limits}


def render_model(serving: KubernetesServingSpec, pod: Pod, target: Target, name: str = NAMED) -> Json:
    if "://" not in target.package or target.package.startswith("file://"):
        raise UserError(
            f"the package of version {target.version} is in a local folder ({target.package}), which pods cannot "
            "reach. Train and register it in a store such as s3://bucket/prefix (--store, ENDCAP_STORE)",
            code="deploy.package-in-a-folder",
            version=target.version,
            package=target.package,
        )
    return {
        "modelFormat": FORMAT,
        "runtime": RUNTIME,
        "storageUri": target.package,
        **({"image": serving.image} if serving.image else {}),
        "env": [
            {"name": name, "value": value}
            for name, value in {"ENDCAP_VERSION": target.version, **devices.make_gpu_variables(pod.gpu)}.items()
        ],
        "startupProbe": make_start_up_probe(serving.starts_within.total_seconds(), name),
        "resources": make_resources(pod),
    }


def render_pod(serving: KubernetesServingSpec, pod: Pod, mode: Mode, recommender: str) -> Json:
    fields: Json = {
        "serviceAccountName": serving.service_account,
        # The container that KServe adds to the pod sets none of these itself.
        "securityContext": make_pod_security(),
    }
    if pod.nodeSelector:
        fields["nodeSelector"] = dict(pod.nodeSelector)
    if pod.runtimeClassName:
        fields["runtimeClassName"] = pod.runtimeClassName
    if tolerations := pod.borne():
        fields["tolerations"] = [toleration.model_dump(exclude_none=True) for toleration in tolerations]
    if mode == "Standard":
        # Knative takes spreading only behind a switch of its own; the scheduler's defaults spread there.
        fields["topologySpreadConstraints"] = [
            _render_spread(key, recommender) for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
        ]
    return fields


def make_scaling(serving: KubernetesServingSpec, mode: Mode) -> Json:
    replicas = serving.replicas
    metrics = ("concurrency", "rps") if mode == "Knative" else ("cpu", "memory")
    metric = replicas.metric if replicas.metric in metrics else metrics[0]
    # A target belongs to the metric that was asked for.
    target = replicas.target if metric == replicas.metric else None
    default_targets = {"concurrency": 8, "rps": 200, "cpu": 80, "memory": 80}
    return {
        "minReplicas": replicas.min,
        "maxReplicas": replicas.max,
        "scaleMetric": metric,
        "scaleTarget": target or default_targets[metric],
    }


def make_marks(rendered: Json, target: Target) -> Json:
    # The mask keeps what changes on the InferenceService off its pods; a longer mask is another template.
    return {**MASK, VERSION: target.version, TEMPLATE: fingerprint("predictor", rendered, sorted(MASK))[:12]}


def _render_spread(key: str, recommender: str) -> Json:
    return {
        "maxSkew": 1,
        "topologyKey": key,
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": {"serving.kserve.io/inferenceservice": recommender}},
    }
