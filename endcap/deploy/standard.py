"""Standard mode: a predictor a version, each with a Deployment and a Service of its own.

Names are the versions', so that a canary's pods become the stable's without a restart when it is promoted. KServe
deletes what is no longer named in the same moment, so a version that replaces the stable one comes in beside it first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from endcap.deploy import manifests, object_names, predictor_manifests
from endcap.deploy.predictor_manifests import TEMPLATE
from endcap.deploy.state import CanaryTarget, Deployment, Target
from endcap.deploy.state_marks import make_state_marks
from endcap.deploy.tls import PredictorTransport, choose_interim_transport, copy_tls_annotation
from endcap.deploy.transitions import (
    WEIGHTS,
    Transition,
    is_pending,
    read_annotation,
    read_annotations,
    read_predictor_version,
    read_target,
    round_percent,
)
from endcap.deploy.variants import (
    CANARY,
    SHARE,
    STABLE,
    find_condition,
    is_canary_ready,
    name_predictor_service,
    read_share,
)
from endcap.errors import UserError
from endcap.spec import Recommender

Json = dict[str, Any]


def plan_standard(
    recommender: Recommender,
    desired: Deployment,
    live: Json | None,
    namespace: str,
    *,
    canaries: bool,
    deployments: Mapping[str, Json] | None = None,
) -> Transition:
    """Find the next transition in Standard mode.

    Parameters
    ----------
    recommender, desired, live, namespace
        The spec, the desired state, and the InferenceService that is there, or None.
    canaries
        Whether this release of KServe has canary predictors.
    deployments
        KServe's Deployments by name; None if they may not be read.

    Returns
    -------
    Transition
        The next step towards the desired state.

    Raises
    ------
    UserError
        The state has a canary, and this release of KServe has none.

    Notes
    -----
    If predictors are to switch TLS on or off, they first answer both ways until all of their pods do (see `tls`).
    """
    service = _StandardService(recommender, desired, live, namespace, canaries, deployments)
    transport = choose_interim_transport(recommender.serving.kubernetes, service.predictor)
    if transport is None:
        return _plan(service)
    interim = replace(service, transport=transport, kept_annotations=copy_tls_annotation(service.predictor))
    transition = _plan(interim)
    if transition.done and not is_pending(transition, live) and interim.all_are_new(transition):
        return _plan(service)
    return replace(
        transition,
        description=f"{transition.description}; pods also speak {'TLS' if service.tls else 'without TLS'}",
        done=False,
    )


def _plan(service: _StandardService) -> Transition:
    recommender, desired, canaries = service.recommender, service.desired, service.named
    stable, canary = desired.stable, desired.canary
    if canary is not None and not canaries:
        raise UserError(
            f"this release of KServe has no canary in Standard mode, so version {canary.version} cannot be served "
            f"beside version {stable.version}. Use KServe 0.20 or newer, or set serving.kubernetes.mode: Knative, or "
            f"serve the new version to everyone: endcap registry promote {recommender.name} {canary.version}",
            code="deploy.canary-unsupported",
            recommender=recommender.name,
            stable=stable.version,
            canary=canary.version,
        )
    if service.served not in ("", stable.version) and canaries and service.stable_answers:
        old = read_target(service.predictor)
        if stable.version not in service.beside:
            # It is to bear everyone, so all of its pods start now.
            return service.both(old, CanaryTarget(**stable.model_dump(), share=0.0), _describe_start(stable), load=1.0)
        if not service.answers(stable):
            return service.both(old, service.beside[stable.version], _describe_start(stable), load=1.0)
        return service.alone(stable, f"version {stable.version} gets everyone")
    if canary is None or (canary.version not in service.beside and not service.is_ready(stable)):
        here = service.served == stable.version and service.stable_answers
        return service.alone(stable, f"version {stable.version} {'serves everyone' if here else 'starts'}")
    share = canary.share if service.answers(canary) else 0.0
    words = f"version {canary.version} gets {share:.4g} of the shoppers, version {stable.version} the rest"
    target = canary.model_copy(update={"share": share})
    return service.both(
        stable, target, words if service.answers(canary) else _describe_start(canary), done=service.answers(canary)
    )


def _describe_start(target: Target) -> str:
    return f"version {target.version} starts, with no traffic yet"


@dataclass(frozen=True)
class _StandardService:
    """The InferenceService as it is, and the transitions from there."""

    recommender: Recommender
    desired: Deployment
    live: Json | None
    namespace: str
    named: bool
    deployments: Mapping[str, Json] | None
    transport: PredictorTransport | None = None
    """None: as the spec says."""
    kept_annotations: Mapping[str, str] = field(default_factory=dict)
    """Of how the gateway goes on meanwhile."""

    @property
    def tls(self) -> bool:
        """Whether predictors are to speak TLS in the end."""
        return self.recommender.serving.kubernetes.tls is not None

    @property
    def predictor(self) -> Json:
        return self.live["spec"]["predictor"] if self.live else {}

    @property
    def served(self) -> str:
        """The version of the stable predictor."""
        return read_predictor_version(self.predictor)

    @property
    def stable_answers(self) -> bool:
        return self.live is not None and find_condition(self.live, "PredictorReady").get("status") == "True"

    @property
    def beside(self) -> dict[str, CanaryTarget]:
        """The canary predictors by version."""
        if self.live is None:
            return {}
        share = read_share(read_annotations(self.live))
        targets = {}
        for entry in self.live["spec"].get("canary") or []:
            target = read_target(entry["predictor"])
            targets[target.version] = CanaryTarget(**target.model_dump(), share=share)
        return targets

    def answers(self, target: Target) -> bool:
        """Whether a version that is beside the stable one has a pod that is available."""
        name = object_names.name_predictor(target)
        return self.live is not None and target.version in self.beside and is_canary_ready(self.live, name)

    def is_ready(self, target: Target) -> bool:
        """Whether the stable predictor is this version, as now rendered, and all of its pods are new and available.

        KServe's condition stays true through an update; without the right to read Deployments it must do.
        """
        rendered = self._predictor(target)
        if not self.stable_answers or read_annotation(self.predictor, TEMPLATE) != read_annotation(rendered, TEMPLATE):
            return False
        if self.deployments is None:
            return True
        name = object_names.name_service(self.recommender.name, target, named=self.named)
        deployment = self.deployments.get(name)
        return deployment is not None and _rolled_out(deployment, read_annotation(rendered, TEMPLATE))

    def all_are_new(self, step: Transition) -> bool:
        """Whether no pod is left of how its predictor was rendered before this step."""
        if self.deployments is None:
            return True
        predictors = [step.service["spec"]["predictor"]]
        predictors += [entry["predictor"] for entry in step.service["spec"].get("canary") or []]
        for predictor in predictors:
            deployment = self.deployments.get(name_predictor_service(self.recommender.name, predictor.get("name")))
            if deployment is None or not _rolled_out(deployment, read_annotation(predictor, TEMPLATE)):
                return False
        return True

    def alone(self, stable: Target, words: str) -> Transition:
        service = self._service(self._predictor(stable), {STABLE: stable.version})
        done = self.desired.canary is None and not self.beside and self.is_ready(stable)
        weights = {self._name(stable): WEIGHTS}
        # What loses its Service here gets no requests any more before it is gone.
        return Transition(service, words, done, stable, weights, route_first=bool(self.beside))

    def both(
        self, stable: Target, canary: CanaryTarget, words: str, *, done: bool = False, load: float | None = None
    ) -> Transition:
        """Serve two versions. load: which share of the shoppers the second one's pods must bear, if not its own."""
        borne = canary.share if load is None else load
        entry = predictor_manifests.render_canary_entry(self.recommender, canary, borne, transport=self.transport)
        entry["predictor"]["annotations"] |= self.kept_annotations
        entry["trafficPercent"] = round_percent(canary.share)
        annotations = {STABLE: stable.version, CANARY: canary.version, SHARE: f"{canary.share:g}"}
        service = self._service(self._predictor(stable), annotations, [entry])
        weight = round(canary.share * WEIGHTS)
        weights = {self._name(stable): WEIGHTS - weight} | ({self._name(canary): weight} if weight else {})
        gone = set(self.beside) - {canary.version}
        return Transition(service, words, done, canary, weights, route_first=bool(gone))

    def _predictor(self, target: Target) -> Json:
        rendered = predictor_manifests.render_predictor(
            self.recommender, "Standard", target, named=self.named, transport=self.transport
        )
        rendered["annotations"] |= self.kept_annotations
        return rendered

    def _name(self, target: Target) -> str:
        return object_names.name_service(self.recommender.name, target, named=self.named)

    def _service(self, predictor: Json, more: dict[str, str], canary: list[Json] | None = None) -> Json:
        marks = {**make_state_marks(self.desired, self.live), **more}
        return manifests.render_inference_service(
            self.recommender, self.namespace, "Standard", predictor, marks, canary
        )


def _rolled_out(deployment: Json, template: str) -> bool:
    status = deployment.get("status") or {}
    return (
        read_annotation(deployment["spec"]["template"]["metadata"], TEMPLATE) == template
        and status.get("observedGeneration", 0) >= deployment["metadata"]["generation"]
        and status.get("updatedReplicas", 0) == status.get("replicas", 0) > 0
        and status.get("availableReplicas", 0) > 0
    )
