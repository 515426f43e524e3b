"""Where a cluster counts what the arms of a rollout answered: pods of predictors and gateways, or Prometheus."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from endcap.cluster import Cluster
from endcap.cluster.kinds import INFERENCE_SERVICE, POD
from endcap.deploy.variants import SELECTOR, VERSION, Variant, read_side_variant, read_variants
from endcap.experiments.operations import ArmSources, PageReader, PrometheusReader
from endcap.experiments.splits import Arm
from endcap.rollout.request_watcher import GuardrailWatcher
from endcap.store import Store
from endcap_serving.gateway.clusters import name_counts, name_with_fallback
from endcap_serving.gateway.routes import derive_connect_timeout
from endcap_serving.gateway.splits import make_upstream

PREDICTOR_PORT, GATEWAY_PORT = 8080, 9902
"""Ports of the pages. They stay plain where predictors and gateways speak TLS."""
GATEWAY_PODS = "app.kubernetes.io/part-of=endcap,app.kubernetes.io/component=gateway"
"""Label selector of the chart's gateway pods."""
STEP = timedelta(minutes=1)
"""Twice the interval in which the chart has Prometheus read the pages."""


def make_request_watcher(
    store: Store,
    recommender: str,
    cluster: Cluster,
    namespace: str,
    *,
    gateway_namespace: str | None = None,
    prometheus: str | None = None,
    step: timedelta = STEP,
    headers: Mapping[str, str] | None = None,
) -> GuardrailWatcher:
    """Make what measures the guardrails of a recommender's rollouts in a cluster.

    Parameters
    ----------
    store
        Keeps what was measured.
    recommender, cluster, namespace
        What is served, and where.
    gateway_namespace
        Of the gateway's pods; None: the same.
    prometheus
        The address of Prometheus, which reads the pages of predictors and gateways. None: the pods are asked for
        their pages, for which the account needs the right to list pods in both namespaces.
    step
        How much time Prometheus is asked for at once (`PrometheusReader`).
    headers
        Sent to Prometheus, such as an authorization.
    """
    arms = ClusterArms(cluster, namespace, recommender, gateway_namespace or namespace, asks_pods=prometheus is None)
    reader = PageReader() if prometheus is None else PrometheusReader(prometheus, step, headers=headers)
    return GuardrailWatcher(store, arms.list_sources, reader)


class ClusterArms:
    """The arms of one recommender in a namespace, as its InferenceServices say.

    Parameters
    ----------
    cluster, namespace, recommender
        Where the recommender is served.
    gateway_namespace
        Of the gateway's pods.
    asks_pods
        Name the pods' addresses too.
    """

    def __init__(
        self, cluster: Cluster, namespace: str, recommender: str, gateway_namespace: str, *, asks_pods: bool
    ) -> None:
        self._cluster, self._namespace, self._recommender = cluster, namespace, recommender
        self._gateway_namespace, self._asks_pods = gateway_namespace, asks_pods

    def list_sources(self) -> dict[str, ArmSources]:
        """List the arms that get requests at this moment, and where they are counted.

        Raises
        ------
        ForbiddenError, UnreachableError
            The cluster refuses, or does not answer.
        """
        services = self._cluster.list_objects(INFERENCE_SERVICE, self._namespace, SELECTOR)
        arms = find_arms(services, self._recommender)
        gateways = self._list_gateways() if arms and self._asks_pods else ()
        return {
            arm: ArmSources(
                version=place.variant.version,
                predictors=self._list_predictors(place) if self._asks_pods else (),
                gateways=gateways,
                selector=f'{{namespace="{self._namespace}"}}',
                model=self._recommender,
                cluster=place.cluster if gateways or not self._asks_pods else None,
            )
            for arm, place in arms.items()
        }

    def _list_predictors(self, place: ArmPlace) -> tuple[str, ...]:
        labels = f"serving.kserve.io/inferenceservice={place.service}"
        pods = self._cluster.list_objects(POD, self._namespace, labels)
        version = place.variant.version
        own = (pod for pod in pods if (pod["metadata"].get("annotations") or {}).get(VERSION) == version)
        return tuple(sorted(f"http://{_read_address(pod)}:{PREDICTOR_PORT}" for pod in own if _is_ready(pod)))

    def _list_gateways(self) -> tuple[str, ...]:
        pods = self._cluster.list_objects(POD, self._gateway_namespace, GATEWAY_PODS)
        return tuple(sorted(f"http://{_read_address(pod)}:{GATEWAY_PORT}" for pod in pods if _is_ready(pod)))


@dataclass(frozen=True)
class ArmPlace:
    """Where an arm answers: its InferenceService, its version, and the name by which Envoy counts its cluster."""

    service: str
    variant: Variant
    cluster: str


def find_arms(services: Iterable[Mapping[str, Any]], recommender: str) -> dict[Arm, ArmPlace]:
    """Find the arms that answer.

    Parameters
    ----------
    services
        The InferenceServices of a namespace that Endcap made.
    recommender
        Whose arms.
    """
    variants, candidates = None, list[tuple[Arm, str, Variant | None]]()
    for service in services:
        name = service["metadata"]["name"]
        if (side := read_side_variant(service)) and side.recommender == recommender and side.role != "shadow":
            candidates.append((side.role, name, side.variant))
        elif name == recommender and (variants := read_variants(service)):
            candidates += [("stable", name, variants.stable), ("canary", name, variants.canary)]
    if variants is None:
        return {}
    connect = derive_connect_timeout(variants.terms.timeout)
    arms = {}
    for arm, name, variant in candidates:
        if variant is not None and variant.ready:
            upstream = make_upstream(recommender, variant, connect)
            cluster = name_with_fallback(upstream) if variants.terms.offers_list else upstream.name
            arms[arm] = ArmPlace(name, variant, name_counts(cluster))
    return arms


def _read_address(pod: Mapping[str, Any]) -> str:
    address = str(pod["status"]["podIP"])
    return f"[{address}]" if ":" in address else address


def _is_ready(pod: Mapping[str, Any]) -> bool:
    status = pod.get("status") or {}
    conditions = {item["type"]: item["status"] for item in status.get("conditions") or []}
    return bool(status.get("podIP")) and conditions.get("Ready") == "True"
