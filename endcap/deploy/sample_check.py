"""Whether predictors in a cluster can keep the request samples that a spec asks for."""

from __future__ import annotations

from typing import Any

from endcap.cluster import Cluster, ForbiddenError
from endcap.cluster.kinds import SERVING_RUNTIME
from endcap.deploy.runtime_manifests import RUNTIME, SAMPLES_SECRET
from endcap.spec import Recommender
from endcap.spec.serving import SAMPLES

Json = dict[str, Any]


def explain_missing_samples(recommender: Recommender, cluster: Cluster, namespace: str) -> str | None:
    """Explain why nothing will be kept although the spec asks for samples.

    Returns
    -------
    str or None
        The reason; None if the ServingRuntime names a place, if the spec asks for no samples, or if this account may
        not read the runtime. Whether the Secret holds what it must, only the predictors see.

    Raises
    ------
    ClusterError
        The API server refuses or does not answer.
    """
    if not recommender.serving.samples.share:
        return None
    try:
        runtime = cluster.find(SERVING_RUNTIME, RUNTIME, namespace)
    except ForbiddenError:
        return None
    if runtime is None or _names_place(runtime):
        return None
    return (
        f"serving.samples asks for request samples, and the ServingRuntime {RUNTIME} in {namespace} has neither "
        f"{SAMPLES} nor a Secret for it: nothing will be kept. Make a Secret with {SAMPLES} and ENDCAP_PSEUDONYM_KEY, "
        f"and name it by the chart's serving.samples.secretName ({SAMPLES_SECRET} is what the manifests name)"
    )


def _names_place(runtime: Json) -> bool:
    containers = runtime.get("spec", {}).get("containers") or []
    sources = [source for container in containers for source in container.get("envFrom") or []]
    variables = [variable["name"] for container in containers for variable in container.get("env") or []]
    return any("secretRef" in source for source in sources) or SAMPLES in variables
