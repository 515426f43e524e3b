"""Standard mode: a predictor a version, each with a Deployment and a Service of its own.

Names are the versions', so that a canary's pods become the stable's without a restart when it is promoted. KServe
deletes what is no longer named in the same moment, so a version that replaces the stable one comes in beside it first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from endcap.deploy import manifests
from endcap.deploy.manifests import TEMPLATE
from endcap.deploy.state import CanaryTarget, Deployment, Target
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
    SALT,
    SHARE,
    STABLE,
    find_condition,
    is_canary_ready,
    name_predictor_service,
    read_share,
    settings_to_annotations,
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
    """The next step from what is there.

    Predictors that are to speak otherwise do both first, until all of their pods are such (tls.py).

    canaries: whether this release of KServe knows canary predictors. deployments: KServe's Deployments by name; None
    where they may not be read. Raises UserError for a canary that the release cannot have.
    """
    at = _StandardService(recommender, desired, live, namespace, canaries, deployments)
    speech = choose_interim_transport(recommender.serving.kubernetes, at.predictor)
    if speech is None:
        return _plan(at)
    both = replace(at, speech=speech, said=copy_tls_annotation(at.predictor))
    step = _plan(both)
    if step.done and not is_pending(step, live) and both.all_are_new(step):
        return _plan(at)
    return replace(step, words=f"{step.words}; pods also speak {'TLS' if at.tls else 'without TLS'}", done=False)


def _plan(at: _StandardService) -> Transition:
    recommender, desired, canaries = at.recommender, at.desired, at.named
    stable, canary = desired.stable, desired.canary
    if canary is not None and not canaries:
        raise UserError(
            f"this release of KServe has no canary in Standard mode, so version {canary.version} cannot be served "
            f"beside version {stable.version}; use KServe 0.20 or newer, or serving.kubernetes.mode: Knative, or give "
            f"everyone the new version: endcap registry promote {recommender.name} {canary.version}",
            code="deploy.canary-unsupported",
            recommender=recommender.name,
            stable=stable.version,
            canary=canary.version,
        )
    if at.served not in ("", stable.version) and canaries and at.stable_answers:
        old = read_target(at.predictor)
        if stable.version not in at.beside:
            return at.both(old, CanaryTarget(**stable.model_dump(), share=0.0), _describe_start(stable))
        if not at.answers(stable):
            return at.both(old, at.beside[stable.version], _describe_start(stable))
        return at.alone(stable, f"version {stable.version} gets everyone")
    if canary is None or (canary.version not in at.beside and not at.is_ready(stable)):
        here = at.served == stable.version and at.stable_answers
        return at.alone(stable, f"version {stable.version} {'serves everyone' if here else 'starts'}")
    share = canary.share if at.answers(canary) else 0.0
    words = f"version {canary.version} gets {share:.4g} of the shoppers, version {stable.version} the rest"
    target = canary.model_copy(update={"share": share})
    return at.both(stable, target, words if at.answers(canary) else _describe_start(canary), done=at.answers(canary))


def _describe_start(target: Target) -> str:
    return f"version {target.version} starts, with no traffic yet"


@dataclass(frozen=True)
class _StandardService:
    """Where things are, and the steps from there."""

    recommender: Recommender
    desired: Deployment
    live: Json | None
    namespace: str
    named: bool
    deployments: Mapping[str, Json] | None
    speech: PredictorTransport | None = None
    """None: as the spec says."""
    said: Mapping[str, str] = field(default_factory=dict)
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
        found = {}
        for one in self.live["spec"].get("canary") or []:
            target = read_target(one["predictor"])
            found[target.version] = CanaryTarget(**target.model_dump(), share=share)
        return found

    def answers(self, target: Target) -> bool:
        """Whether a version that is beside the stable one has a pod that is available."""
        name = manifests.name_predictor(target)
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
        name = manifests.name_service(self.recommender.name, target, named=self.named)
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

    def both(self, stable: Target, canary: CanaryTarget, words: str, *, done: bool = False) -> Transition:
        entry = manifests.render_canary_entry(self.recommender, canary, canary.share, speech=self.speech)
        entry["predictor"]["annotations"] |= self.said
        entry["trafficPercent"] = round_percent(canary.share)
        said = {STABLE: stable.version, CANARY: canary.version, SHARE: f"{canary.share:g}"}
        service = self._service(self._predictor(stable), said, [entry])
        weight = round(canary.share * WEIGHTS)
        weights = {self._name(stable): WEIGHTS - weight} | ({self._name(canary): weight} if weight else {})
        gone = set(self.beside) - {canary.version}
        return Transition(service, words, done, canary, weights, route_first=bool(gone))

    def _predictor(self, target: Target) -> Json:
        made = manifests.render_predictor(self.recommender, "Standard", target, named=self.named, speech=self.speech)
        made["annotations"] |= self.said
        return made

    def _name(self, target: Target) -> str:
        return manifests.name_service(self.recommender.name, target, named=self.named)

    def _service(self, predictor: Json, said: dict[str, str], canary: list[Json] | None = None) -> Json:
        marks = {SALT: self.desired.salt, **settings_to_annotations(self.desired.terms), **said}
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
