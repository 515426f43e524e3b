"""What a cluster can do, read from what it offers to every user, never assumed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from endcap.cluster import Cluster
from endcap.cluster.kinds import HTTP_ROUTE, INFERENCE_SERVICE, KNATIVE_ROUTE
from endcap.deploy.variants import Mode, read_mode
from endcap.errors import ClusterError
from endcap.spec import Recommender

Json = dict[str, Any]
OLDEST = "0.16"
"""The first release with the words Knative and Standard, and with an S3 endpoint read from a Secret's keys."""


@dataclass(frozen=True)
class Capabilities:
    """What matters to one recommender in one cluster."""

    mode: Mode
    """In which the recommender runs, or is to run."""
    canaries: bool
    """Standard: KServe knows canary predictors. (Knative mode always has a canary.)"""


def find_capabilities(cluster: Cluster, recommender: Recommender, live: Json | None, service: Json) -> Capabilities:
    """Find out what the cluster can do for a recommender.

    Parameters
    ----------
    cluster
        The cluster.
    recommender
        Its spec.
    live
        Its InferenceService, None if there is none. Its mode stays.
    service
        An InferenceService without a mode (`manifests.make_mode_probe`). A dry run of it shows the cluster's default.

    Returns
    -------
    Capabilities
        The mode, and whether canaries work.

    Raises
    ------
    ClusterError
        KServe is missing or too old, or Knative or the Gateway API is missing and needed.
    """
    schema = _inference_service(cluster)
    spec_mode = recommender.serving.kubernetes.mode
    mode = (
        read_mode(live) if live is not None else _default_mode(cluster, service) if spec_mode == "auto" else spec_mode
    )
    if live is not None and spec_mode not in ("auto", mode):
        raise ClusterError(
            f"{recommender.name} runs in {mode} mode, but serving.kubernetes.mode is {spec_mode}. KServe cannot change "
            f"the mode. Run `endcap undeploy {recommender.name}` first, or set the mode to {mode}",
            code="deploy.mode-differs",
            recommender=recommender.name,
            found=mode,
            wanted=spec_mode,
        )
    if mode == "Knative" and not cluster.schema(KNATIVE_ROUTE.api_version):
        raise ClusterError(
            "Knative Serving is not installed in this cluster, but Knative mode needs it. Install it, or set "
            "serving.kubernetes.mode: Standard",
            code="deploy.knative-missing",
            setting="serving.kubernetes.mode",
        )
    route = recommender.serving.kubernetes.route if mode == "Standard" else None
    if route is not None and not cluster.schema(HTTP_ROUTE.api_version):
        raise ClusterError(
            "the Gateway API is not installed in this cluster, but serving.kubernetes.route needs it. Install it "
            "(https://gateway-api.sigs.k8s.io/guides), or remove the route",
            code="deploy.gateway-api-missing",
            setting="serving.kubernetes.route",
        )
    spec = (schema.get("properties") or {}).get("spec") or {}
    # KServe's minimal CRDs name no fields; they came with releases that know canaries, and KServe's report is awaited.
    canaries = "canary" in (spec.get("properties") or {"canary": {}})
    return Capabilities(mode, canaries)


def _inference_service(cluster: Cluster) -> Json:
    kind = INFERENCE_SERVICE
    for schema in cluster.schema(kind.api_version).values():
        for identity in schema.get("x-kubernetes-group-version-kind") or []:
            if (identity["group"], identity["kind"]) == (kind.group, kind.name):
                _check_release(schema)
                return dict(schema)
    raise ClusterError(
        "KServe is not installed in this cluster, which has no kind InferenceService. Install KServe "
        "(https://kserve.github.io/website/docs/admin-guide/overview), then the ServingRuntime with Endcap's chart or "
        "manifests",
        code="deploy.kserve-missing",
    )


def _check_release(schema: Json) -> None:
    status = ((schema.get("properties") or {}).get("status") or {}).get("properties")
    if status is not None and "servingRuntimeName" not in status:
        raise ClusterError(
            f"this cluster's KServe is older than {OLDEST}, which Endcap does not support. Update it (to 0.20 or "
            "newer for a canary in Standard mode)",
            code="deploy.kserve-too-old",
            oldest=OLDEST,
        )


def _default_mode(cluster: Cluster, service: Json) -> Mode:
    """Ask KServe's webhook for its default mode by a dry run."""
    tried = cluster.apply(service, dry_run=True)
    return read_mode(tried)
