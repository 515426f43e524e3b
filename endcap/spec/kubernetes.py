"""What a spec says of Kubernetes: what pods get, where they may run, what is tried again, what is served how."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from endcap.spec.base import Allowed, Duration, Mistake, Name, Strict, check
from endcap.spec.pod import Pod


class Replicas(Strict):
    """How many predictor pods a variant has, and what makes them more."""

    min: Annotated[int, Field(ge=1)] = 1
    """At least one: a model takes too long to load for the first shopper after a quiet hour."""
    max: Annotated[int, Field(ge=1)] = 3
    metric: Literal["concurrency", "rps", "cpu", "memory"] = "concurrency"
    """Knative scales by concurrency or requests a second, Standard by cpu or memory: where the cluster's mode cannot
    scale by what is asked for, cpu stands for concurrency and rps, and concurrency for cpu and memory."""
    target: Annotated[int, Field(ge=1)] | None = None
    """Of the metric, for each pod; left out: 80 % of cpu or memory, 8 requests at once, or 200 a second."""

    @check
    def _max_is_not_below_min(self) -> Iterator[Mistake]:
        if self.max < self.min:
            yield Mistake(("max",), f"{self.max}, and min is {self.min}", "at least min", code="conflict")


class Route(Strict):
    """An HTTPRoute of Endcap's own, for a KServe release that ignores the canary's share."""

    gateway: Annotated[str, Field(pattern=r"^[a-z0-9-]+/[a-z0-9.-]+$"), Allowed("namespace/name of a Gateway")]
    hostname: Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$")]
    """Of its own: on KServe's hostname the older route wins."""


class Tls(Strict):
    """Predictors speak TLS, in Standard mode."""

    secret: Name = "endcap-predictors-tls"  # noqa: S105 - a Secret's name
    """Of the type kubernetes.io/tls, in the predictors' namespace, with a certificate for *.NAMESPACE.svc."""
    clients: list[Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$"), Allowed("a DNS name")]] = []
    """DNS names: only who has a certificate of the Secret's ca.crt for one of them is let in, as the gateway's. Empty:
    nobody is asked for a certificate."""


class KubernetesServingSpec(Pod):
    """Predictor pods on a KServe InferenceService."""

    namespace: Name = "endcap-serving"
    mode: Literal["auto", "Knative", "Standard"] = "auto"
    """Of KServe; auto: the cluster's own default."""
    image: str | None = None
    """Left out: the image of this release of Endcap."""
    secret: Name = "endcap-store"  # noqa: S105 - a Secret's name
    service_account: Name = "endcap-predictor"
    """Carries the Secret, by which KServe reads the package."""
    replicas: Replicas = Replicas()
    canary: Pod | None = None
    """What the canary's pods get instead, in Standard mode; left out: what the stable's get."""
    starts_within: Duration = Field(default="5m", validate_default=True)
    """From the container's start to ready: the start-up probe waits so long."""
    ready_within: Duration = Field(default="15m", validate_default=True)
    """From the deployment to ready, images and nodes included; then it ends with the reason."""
    route: Route | None = None
    tls: Tls | None = None

    @check
    def _canary_says_every_key_of_the_nodes(self) -> Iterator[Mistake]:
        if self.canary is not None and (lost := set(self.nodeSelector) - set(self.canary.nodeSelector)):
            actual, hint = f"no {', '.join(sorted(lost))}", "KServe gives the canary the stable's keys in any case."
            allowed = "each key of serving.kubernetes.nodeSelector, with the same value or another"
            yield Mistake(("canary", "nodeSelector"), actual, allowed, hint, code="missing")

    @check
    def _canary_says_its_runtime_class(self) -> Iterator[Mistake]:
        if self.canary is not None and self.runtimeClassName is not None and self.canary.runtimeClassName is None:
            hint, allowed = "KServe gives the canary the stable's in any case.", "the stable's, or another"
            yield Mistake(("canary", "runtimeClassName"), "nothing", allowed, hint, code="missing")
