"""A recommender as Kubernetes objects: plain functions from the spec and a version's address to dictionaries.

Only what Endcap means is said; everything else stays with KServe's defaults and with whoever else sets it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from endcap import __version__, devices
from endcap.cluster.security import USER, make_container_security
from endcap.deploy.state import Target
from endcap.deploy.tls import PORT, PredictorTransport, choose_transport
from endcap.deploy.variants import (
    MASK,
    MODE,
    SHADOW_MASK,
    SHADOW_OF,
    SHADOW_SHARE,
    VERSION,
    Mode,
    make_labels,
    name_predictor_service,
)
from endcap.errors import UserError
from endcap.online import ONLINE
from endcap.spec import Recommender
from endcap.spec.kubernetes import Pod, Serving
from endcap.store import fingerprint

IMAGE = f"endcap:{__version__}"
RUNTIME = "endcap"
FORMAT = {"name": "endcap", "version": "1"}
ONLINE_SECRET = "endcap-online"  # noqa: S105 (a name)
"""The Secret that holds the online store's address, where the manifests' runtime looks for it."""
NAMED = "{{.Name}}"
"""KServe fills in the InferenceService's name."""
PACKAGE = "/mnt/models"
"""Where KServe lays the package."""
DRAIN_WAIT = 5
"""Seconds that a pod that is to end goes on taking requests; of the thirty that Kubernetes gives it."""
LONGEST_NAME = 40
"""KServe and Knative make longer names and labels of it, which Kubernetes ends at 63 characters."""
SHADOW_SUFFIX = "--shadow"
"""Of a shadow's InferenceService; no recommender's name may end so in a cluster."""
TEMPLATE = "endcap.dev/template"
"""Of a predictor: the fingerprint of how it was rendered."""
Json = dict[str, Any]


def render_serving_runtime(namespace: str, image: str = IMAGE, online: str | None = None) -> Json:
    """How a package is served; one for all recommenders of a namespace.

    online: the Secret with the online store's address. Where it is not there, rankings go by what requests carry.
    """
    return {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": "ServingRuntime",
        "metadata": _metadata(RUNTIME, namespace, make_labels(RUNTIME)),
        "spec": {
            "supportedModelFormats": [{**FORMAT, "autoSelect": True}],
            "protocolVersions": ["v1", "v2"],
            "multiModel": False,
            "containers": [_container(image, online)],
            "volumes": [{"name": "tmp", "emptyDir": {}}],
        },
    }


def render_service_account(namespace: str, serving: Serving) -> Json:
    """The predictors' account; KServe reads packages with the Secret that it names. It may do nothing itself."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": _metadata(serving.service_account, namespace, make_labels(RUNTIME)),
        "secrets": [{"name": serving.secret}],
        "automountServiceAccountToken": False,
    }


def render_inference_service(
    recommender: Recommender,
    namespace: str,
    mode: Mode,
    predictor: Json,
    said: Mapping[str, str],
    canary: list[Json] | None = None,
) -> Json:
    """The InferenceService with these predictors (`predictor`, `canary_entry`) and annotations of `variants`."""
    spec: Json = {"predictor": predictor}
    if canary:
        spec["canary"] = canary
    return _service(_metadata(recommender.name, namespace, make_labels(recommender.name)), mode, said, spec)


def render_shadow_service(
    recommender: Recommender, namespace: str, mode: Mode, shadow: Target, share: float, owner: Json | None = None
) -> Json:
    """The InferenceService of a shadow, which gets copies of a share of the recommender's requests.

    One pod, as the stable version's are; scaled by nothing, since copies that it has no time for may be lost. owner:
    the recommender's InferenceService, with which Kubernetes deletes it.
    """
    serving, name = recommender.serving.kubernetes, name_shadow(recommender.name, namespace)
    model = _model(serving, serving, shadow, recommender.name)
    model["env"].append({"name": "ENDCAP_VARIANT", "value": "shadow"})
    # Copies come with the recommender's name, the runtime fills in the InferenceService's. KServe puts arguments behind
    # the runtime's, where the last one counts.
    model["args"] = ["--model-name", recommender.name]
    model["readinessProbe"] = _readiness_probe(recommender.name)
    speech = choose_transport(serving, mode)
    pods = {"model": speech.model(model), **_pod(serving, serving, mode, name), **speech.pod}
    pods |= {"minReplicas": 1, "maxReplicas": 1}
    predictor = {**pods, "annotations": {**_marks(pods, shadow), **SHADOW_MASK, **speech.said}}
    metadata = _metadata(name, namespace, {**make_labels(recommender.name), "app.kubernetes.io/component": "shadow"})
    if owner is not None:
        there = {"name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"]}
        metadata["ownerReferences"] = [{"apiVersion": owner["apiVersion"], "kind": owner["kind"], **there}]
    said = {SHADOW_OF: recommender.name, SHADOW_SHARE: f"{share:g}"}
    return _service(metadata, mode, said, {"predictor": predictor})


def name_shadow(recommender: str, namespace: str) -> str:
    """Of a shadow's InferenceService: not a recommender's name, and no longer than one may be.

    In Standard mode KServe makes one label of a host's name, at most 63 characters, of the predictor and the namespace.
    """
    room = min(LONGEST_NAME, 63 - len(f"-predictor-{namespace}")) - len(SHADOW_SUFFIX)
    if len(recommender) > room:
        mark = fingerprint("shadow", recommender)[:7]
        recommender = f"{recommender[: max(1, room - len(mark) - 1)]}-{mark}"
    return recommender + SHADOW_SUFFIX


def make_mode_probe(recommender: Recommender, namespace: str, target: Target) -> Json:
    """One that either mode takes and that says none, to ask KServe for the cluster's own without making it.

    Without scaling: each mode has metrics that the other's validation refuses.
    """
    made = render_predictor(recommender, "Knative", target)
    plain = {
        key: value for key, value in made.items() if key not in _scaling(recommender.serving.kubernetes, "Knative")
    }
    service = render_inference_service(recommender, namespace, "Standard", plain, {})
    del service["metadata"]["annotations"][MODE]
    return service


def render_predictor(
    recommender: Recommender,
    mode: Mode,
    target: Target,
    *,
    named: bool = True,
    speech: PredictorTransport | None = None,
) -> Json:
    """The predictor of a version. named: under a name of the version's own, which Standard mode needs for a canary.
    speech: left out: as the spec says.

    Raises UserError where the package lies in a folder of some machine.
    """
    serving = recommender.serving.kubernetes
    speech = choose_transport(serving, mode) if speech is None else speech
    pods = {
        **({"name": name_predictor(target)} if mode == "Standard" and named else {}),
        "model": speech.model(_model(serving, serving, target)),
        **_pod(serving, serving, mode, recommender.name),
        **speech.pod,
    }
    scaling = _scaling(serving, mode)
    # Knative makes a revision of either; a Deployment's pods go on when only their number changes.
    template = {**pods, **scaling} if mode == "Knative" else pods
    return {**pods, **scaling, "annotations": {**_marks(template, target), **speech.said}}


def render_canary_entry(
    recommender: Recommender, target: Target, share: float, *, speech: PredictorTransport | None = None
) -> Json:
    """Standard: the canary beside the stable predictor.

    KServe lays it over the stable's: what is to differ must be said, and keys of a mapping cannot be taken away.
    It scales by nothing: its pods are the share of `replicas.min`, at least one.
    """
    serving = recommender.serving.kubernetes
    speech = choose_transport(serving, "Standard") if speech is None else speech
    pod = serving.canary or serving
    if serving.gpu is not None and pod.gpu is None:
        pod = pod.model_copy(update={"gpu": serving.gpu.model_copy(update={"count": 0})})
    rendered = {
        "name": name_predictor(target),
        "model": speech.model(_model(serving, pod, target)),
        **_pod(serving, pod, "Standard", recommender.name),
        **speech.pod,
    }
    annotations = {**_marks(rendered, target), **speech.said}
    marked = {**rendered, "minReplicas": count_canary_pods(serving, share), "annotations": annotations}
    return {"predictor": marked, "trafficPercent": round(100 * share)}


def count_canary_pods(serving: Serving, share: float) -> int:
    """Standard: how many pods a canary of this share has."""
    return max(1, math.ceil(serving.replicas.min * share))


def render_http_route(recommender: Recommender, namespace: str, weights: Mapping[str, int]) -> Json:
    """An HTTPRoute of our own, which shares requests out between predictors by weight (0 to 10,000).

    weights: by the predictors' Services.
    """
    route = recommender.serving.kubernetes.route
    if route is None:
        raise UserError(
            "serving.kubernetes.route: not set; it names the gateway and the hostname",
            code="deploy.route-unset",
            setting="serving.kubernetes.route",
        )
    gateway_namespace, gateway = route.gateway.split("/")
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": _metadata(name_own_route(recommender.name), namespace, make_labels(recommender.name)),
        "spec": {
            "parentRefs": [{"name": gateway, "namespace": gateway_namespace}],
            "hostnames": [route.hostname],
            "rules": [{"backendRefs": [{"name": name, "port": 80, "weight": to} for name, to in weights.items()]}],
        },
    }


def name_own_route(recommender: str) -> str:
    """The name of our own HTTPRoute; KServe's has the recommender's."""
    return f"endcap-{recommender}"


def name_predictor(target: Target) -> str:
    """Standard: of the version's own, so that its pods stay when it is promoted."""
    return f"v{target.version}"


def name_service(recommender: str, target: Target, *, named: bool = True) -> str:
    """Standard: the Service in front of a version's pods."""
    return name_predictor_service(recommender, name_predictor(target) if named else None)


def check_recommender_name(recommender: str) -> None:
    """Raise UserError where a recommender's name cannot be an InferenceService's."""
    if len(recommender) > LONGEST_NAME or not recommender[0].isalpha():
        raise UserError(
            f"{recommender} cannot be served in a cluster: the name may have {LONGEST_NAME} characters, and begins "
            "with a letter, because KServe and Knative make other names of it",
            code="deploy.name-unfit",
            found=recommender,
            limit=LONGEST_NAME,
        )
    if recommender.endswith(SHADOW_SUFFIX):
        raise UserError(
            f"{recommender} cannot be served in a cluster: names that end in {SHADOW_SUFFIX} are shadows'",
            code="deploy.name-unfit",
            found=recommender,
            suffix=SHADOW_SUFFIX,
        )


def _service(metadata: Json, mode: Mode, said: Mapping[str, str], spec: Json) -> Json:
    annotations = {MODE: mode, **said}
    if mode == "Knative":
        annotations["serving.kserve.io/enable-tag-routing"] = "true"
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {**metadata, "annotations": annotations},
        "spec": spec,
    }


def _metadata(name: str, namespace: str, marks: Mapping[str, str]) -> Json:
    return {"name": name, "namespace": namespace, "labels": dict(marks)}


def _marks(rendered: Json, target: Target) -> Json:
    # The mask keeps what changes on the InferenceService off its pods; a longer mask is another template.
    return {**MASK, VERSION: target.version, TEMPLATE: fingerprint("predictor", rendered, sorted(MASK))[:12]}


def _container(image: str, online: str | None) -> Json:
    address = {"name": online, "key": ONLINE, "optional": True}
    return {
        "name": "kserve-container",
        "image": image,
        "command": ["python", "-m", "endcap_serving.predictor"],
        "args": [
            *("--model-name", NAMED, "--package", PACKAGE, "--port", str(PORT)),
            # Until every gateway and Service has heard that the pod is not ready any more.
            *("--drain-wait", str(DRAIN_WAIT)),
        ],
        **({"env": [{"name": ONLINE, "valueFrom": {"secretKeyRef": address}}]} if online else {}),
        # The one name that both Knative and Kubernetes take.
        "ports": [{"name": "http1", "containerPort": PORT, "protocol": "TCP"}],
        "startupProbe": make_start_up_probe(300),
        "readinessProbe": _readiness_probe(),
        # Slow to judge: a restart costs more than a minute's patience, and readiness has taken it out by then.
        "livenessProbe": {
            "httpGet": _get("/v2/health/live"),
            "periodSeconds": 10,
            "timeoutSeconds": 5,
            "failureThreshold": 6,
        },
        "securityContext": make_container_security(),
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108 (the pod's own)
    }


def make_start_up_probe(seconds: float, model: str = NAMED) -> Json:
    """Waits so long for the model to be loaded; the other probes begin after it."""
    probe = _readiness_probe(model)
    return {**probe, "failureThreshold": max(1, math.ceil(seconds / probe["periodSeconds"]))}


def _readiness_probe(model: str = NAMED) -> Json:
    return {"httpGet": _get(f"/v2/models/{model}/ready"), "periodSeconds": 5, "timeoutSeconds": 2}


def _get(path: str) -> Json:
    return {"path": path, "port": PORT}


def _model(serving: Serving, pod: Pod, target: Target, name: str = NAMED) -> Json:
    if "://" not in target.package or target.package.startswith("file://"):
        raise UserError(
            f"version {target.version}'s package lies in a folder ({target.package}), which pods cannot reach; "
            "train and register it in a store such as s3://bucket/prefix (--store, ENDCAP_STORE)",
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


def make_resources(pod: Pod) -> Json:
    """What a predictor's container asks for, and may use.

    A limit is said for each request: KServe would fill in its own, which may lie below."""
    cpu, memory = pod.cpu or "1", pod.memory or "2Gi"
    limits = {"cpu": pod.cpu_limit or cpu, "memory": pod.memory_limit or memory}
    requests = {"cpu": cpu, "memory": memory}
    if pod.gpu is not None:
        # Said also when it is none: a canary would inherit the stable's.
        limits[pod.gpu.resource] = requests[pod.gpu.resource] = str(pod.gpu.count)
    return {"requests": requests, "limits": limits}


def _pod(serving: Serving, pod: Pod, mode: Mode, recommender: str) -> Json:
    made: Json = {
        "serviceAccountName": serving.service_account,
        # KServe's own container in the pod says nothing of these.
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    if pod.nodeSelector:
        made["nodeSelector"] = dict(pod.nodeSelector)
    if pod.runtimeClassName:
        made["runtimeClassName"] = pod.runtimeClassName
    if bears := pod.borne():
        made["tolerations"] = [one.model_dump(exclude_none=True) for one in bears]
    if mode == "Standard":
        # Knative takes spreading only behind a switch of its own; the scheduler's defaults spread there.
        made["topologySpreadConstraints"] = [
            _spread(key, recommender) for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
        ]
    return made


def _spread(key: str, recommender: str) -> Json:
    return {
        "maxSkew": 1,
        "topologyKey": key,
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": {"serving.kserve.io/inferenceservice": recommender}},
    }


def _scaling(serving: Serving, mode: Mode) -> Json:
    replicas = serving.replicas
    can = ("concurrency", "rps") if mode == "Knative" else ("cpu", "memory")
    metric = replicas.metric if replicas.metric in can else can[0]
    # A target belongs to the metric that was asked for.
    asked = replicas.target if metric == replicas.metric else None
    usual = {"concurrency": 8, "rps": 200, "cpu": 80, "memory": 80}
    return {
        "minReplicas": replicas.min,
        "maxReplicas": replicas.max,
        "scaleMetric": metric,
        "scaleTarget": asked or usual[metric],
    }
