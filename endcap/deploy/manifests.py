"""A recommender as Kubernetes objects: plain functions from a spec and a version's address to dictionaries.

The objects set only what Endcap needs. KServe's defaults and other writers set everything else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from endcap.deploy.object_names import name_own_route, name_side_service
from endcap.deploy.predictor_manifests import (
    count_canary_pods,
    make_marks,
    make_scaling,
    render_model,
    render_pod,
    render_predictor,
)
from endcap.deploy.runtime_manifests import make_metadata, make_readiness_probe
from endcap.deploy.state import Target
from endcap.deploy.tls import choose_transport
from endcap.deploy.variants import (
    MODE,
    Mode,
    SideRole,
    make_labels,
    make_side_mask,
    name_owner_mark,
    name_share_mark,
)
from endcap.errors import UserError
from endcap.spec import Recommender

Json = dict[str, Any]


def render_inference_service(
    recommender: Recommender,
    namespace: str,
    mode: Mode,
    predictor: Json,
    annotations: Mapping[str, str],
    canary: list[Json] | None = None,
) -> Json:
    """Render an InferenceService.

    Parameters
    ----------
    recommender
        The spec.
    namespace
        The object's namespace.
    mode
        `Knative` or `Standard`.
    predictor
        The stable version's predictor, as `render_predictor` makes it.
    annotations
        The annotations that `endcap.deploy.variants` describes.
    canary
        The canary's predictor in KServe's list form; None or empty: no canary.

    Returns
    -------
    dict
        The object, for server-side apply.
    """
    spec: Json = {"predictor": predictor}
    if canary:
        spec["canary"] = canary
    return _render_service(
        make_metadata(recommender.name, namespace, make_labels(recommender.name)), mode, annotations, spec
    )


def render_side_service(
    recommender: Recommender,
    namespace: str,
    mode: Mode,
    role: SideRole,
    target: Target,
    share: float,
    owner: Json | None = None,
    load: float | None = None,
) -> Json:
    """Render the InferenceService of a shadow, or of an arm that has one of its own.

    Parameters
    ----------
    recommender
        The spec.
    namespace, mode
        As for the recommender's own InferenceService.
    role
        What it is there for.
    target
        The version to serve, and its package's address.
    share
        A shadow's share of the requests, or an arm's of the shoppers, 0 to 1.
    owner
        The recommender's InferenceService. Kubernetes deletes this one with it.
    load
        The share of the shoppers that an arm's pods must bear, 0 to 1, if it is not `share`. In Knative mode the
        autoscaler sees to it: another number of pods would be another revision.

    Returns
    -------
    dict
        The object. A shadow has one pod, like the stable version's, and does not scale, because copies may get lost.
        An arm has the canary's kind of pods. At least its part of `replicas.min` of them run, and they scale.
    """
    serving, name = recommender.serving.kubernetes, name_side_service(recommender.name, namespace, role)
    pod = serving if role == "shadow" else serving.canary or serving
    model = render_model(serving, pod, target, recommender.name)
    model["env"].append({"name": "ENDCAP_VARIANT", "value": role})
    # Requests carry the recommender's name, but the runtime fills in the InferenceService's. KServe appends arguments
    # to the runtime's, and the last one wins.
    model["args"] = ["--model-name", recommender.name]
    model["readinessProbe"] = make_readiness_probe(recommender.name)
    transport = choose_transport(serving, mode)
    pods = {"model": transport.add_to_model(model), **render_pod(serving, pod, mode, name), **transport.pod_fields}
    scaling: Json = {"minReplicas": 1, "maxReplicas": 1}
    if role != "shadow":
        borne = share if load is None or mode == "Knative" else load
        scaling = {**make_scaling(serving, mode), "minReplicas": count_canary_pods(serving, borne)}
    # A Deployment's pods go on when only their number changes; a shadow's number never does.
    template = pods if role != "shadow" and mode == "Standard" else {**pods, **scaling}
    marks = {**make_marks(template, target), **make_side_mask(role), **transport.annotations}
    predictor = {**pods, **scaling, "annotations": marks}
    metadata = make_metadata(name, namespace, {**make_labels(recommender.name), "app.kubernetes.io/component": role})
    if owner is not None:
        identity = {"name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"]}
        metadata["ownerReferences"] = [{"apiVersion": owner["apiVersion"], "kind": owner["kind"], **identity}]
    annotations = {name_owner_mark(role): recommender.name, name_share_mark(role): f"{share:g}"}
    return _render_service(metadata, mode, annotations, {"predictor": predictor})


def make_mode_probe(recommender: Recommender, namespace: str, target: Target) -> Json:
    """Make an InferenceService without a mode that both modes accept: its dry run shows the cluster's default mode.

    It does not scale, since each mode refuses some metrics of the other.
    """
    rendered = render_predictor(recommender, "Knative", target)
    plain = {
        key: value
        for key, value in rendered.items()
        if key not in make_scaling(recommender.serving.kubernetes, "Knative")
    }
    service = render_inference_service(recommender, namespace, "Standard", plain, {})
    del service["metadata"]["annotations"][MODE]
    return service


def render_http_route(recommender: Recommender, namespace: str, weights: Mapping[str, int]) -> Json:
    """Render Endcap's own HTTPRoute, which splits requests between the predictors' Services.

    Parameters
    ----------
    recommender
        The spec; `serving.kubernetes.route` names the gateway and the host name.
    namespace
        The object's namespace.
    weights
        Weights from 0 to 10,000 by the Services' names.

    Returns
    -------
    dict
        The object, for server-side apply.

    Raises
    ------
    UserError
        The spec has no route (`deploy.route-unset`).
    """
    route = recommender.serving.kubernetes.route
    if route is None:
        raise UserError(
            "serving.kubernetes.route: not set. Set it to the gateway and the host name of the route",
            code="deploy.route-unset",
            setting="serving.kubernetes.route",
        )
    gateway_namespace, gateway = route.gateway.split("/")
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": make_metadata(name_own_route(recommender.name), namespace, make_labels(recommender.name)),
        "spec": {
            "parentRefs": [{"name": gateway, "namespace": gateway_namespace}],
            "hostnames": [route.hostname],
            "rules": [{"backendRefs": [{"name": name, "port": 80, "weight": to} for name, to in weights.items()]}],
        },
    }


def _render_service(metadata: Json, mode: Mode, more: Mapping[str, str], spec: Json) -> Json:
    merged = {MODE: mode, **more}
    if mode == "Knative":
        merged["serving.kserve.io/enable-tag-routing"] = "true"
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {**metadata, "annotations": merged},
        "spec": spec,
    }
