"""How predictors run on KServe."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from endcap.spec.base import Allowed, Duration, Mistake, Name, Strict, check
from endcap.spec.pod import Pod


class Replicas(Strict):
    """How many predictor pods a variant has, and when it gets more."""

    min: Annotated[int, Field(ge=1)] = 1
    """The fewest pods. It is at least 1: a model takes too long to load for the first shopper after a quiet hour."""
    max: Annotated[int, Field(ge=1)] = 3
    """The most pods."""
    metric: Literal["concurrency", "rps", "cpu", "memory"] = "concurrency"
    """What decides the number of pods. Knative scales by `concurrency` (requests at the same time) or `rps` (requests
    per second), Standard mode by `cpu` or `memory`. If the cluster's mode cannot use the metric, Endcap replaces
    concurrency and rps by cpu, and cpu and memory by concurrency."""
    target: Annotated[int, Field(ge=1)] | None = None
    """The metric's value that each pod should have. Left out: 80 % of cpu or memory, 8 requests at the same time, or
    200 requests per second."""

    @check
    def _max_is_not_below_min(self) -> Iterator[Mistake]:
        if self.max < self.min:
            yield Mistake(("max",), f"{self.max}, and min is {self.min}", "at least min", code="conflict")


class Route(Strict):
    """An HTTPRoute that Endcap makes, for a KServe release that ignores the canary's share."""

    gateway: Annotated[str, Field(pattern=r"^[a-z0-9-]+/[a-z0-9.-]+$"), Allowed("namespace/name of a Gateway")]
    """The Gateway of the route, as namespace/name."""
    hostname: Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$")]
    """The route's hostname. It must not be KServe's hostname, where the older route wins."""


class Tls(Strict):
    """TLS between the gateway and predictors, in Standard mode."""

    secret: Name = "endcap-predictors-tls"  # noqa: S105 - a Secret's name
    """The Secret with the predictors' certificate for *.NAMESPACE.svc. It is of the type kubernetes.io/tls and lies in
    the predictors' namespace."""
    clients: list[Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$"), Allowed("a DNS name")]] = []
    """The DNS names of allowed clients, such as the gateway's. A client needs a certificate for one of them, signed by
    the Secret's ca.crt. If the list is empty, clients need no certificate."""


class KubernetesServingSpec(Pod):
    """The predictor pods of a KServe InferenceService."""

    namespace: Name = "endcap-serving"
    """The namespace of the InferenceService."""
    mode: Literal["auto", "Knative", "Standard"] = "auto"
    """KServe's deployment mode. `auto`: the cluster's default."""
    image: str | None = None
    """The predictors' image. Left out: the image of this release of Endcap."""
    secret: Name = "endcap-store"  # noqa: S105 - a Secret's name
    """The Secret with the store's keys."""
    service_account: Name = "endcap-predictor"
    """The predictors' ServiceAccount. It refers to the Secret, so that KServe can read the package."""
    replicas: Replicas = Replicas()
    """How many pods a variant has."""
    canary: Pod | None = None
    """What the canary's pods get, in Standard mode. Left out: the same as the stable's pods."""
    starts_within: Duration = Field(default="5m", validate_default=True)
    """The longest time from the container's start until it is ready. Then the start-up probe fails."""
    ready_within: Duration = Field(default="15m", validate_default=True)
    """The longest time from the deployment until its pods are ready, with new nodes and images. Then the deployment
    ends with the reason."""
    route: Route | None = None
    """An HTTPRoute that Endcap makes. Left out: none is made."""
    tls: Tls | None = None
    """TLS between the gateway and predictors. Left out: they use plain HTTP."""

    @check
    def _canary_has_every_key_of_the_node_selector(self) -> Iterator[Mistake]:
        if self.canary is not None and (missing := set(self.nodeSelector) - set(self.canary.nodeSelector)):
            actual, hint = f"no {', '.join(sorted(missing))}", "KServe adds the stable's keys to the canary."
            allowed = "each key of serving.kubernetes.nodeSelector, with the same value or another"
            yield Mistake(("canary", "nodeSelector"), actual, allowed, hint, code="missing")

    @check
    def _canary_has_a_runtime_class(self) -> Iterator[Mistake]:
        if self.canary is not None and self.runtimeClassName is not None and self.canary.runtimeClassName is None:
            hint, allowed = "KServe adds the stable's runtime class to the canary.", "the stable's, or another"
            yield Mistake(("canary", "runtimeClassName"), "nothing", allowed, hint, code="missing")
