"""Knative mode: one template, whose newest revision is the canary, beside the last revision that had all traffic.

A template goes from ready to served in two steps: it comes in with no traffic, and gets its share when its revision is
ready. KServe's usual single step would give the share to whatever revision was newest before.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

from endcap.deploy import manifests, predictor_manifests
from endcap.deploy.predictor_manifests import TEMPLATE
from endcap.deploy.state import Deployment, Target
from endcap.deploy.state_marks import make_state_marks
from endcap.deploy.tls import check_no_tls
from endcap.deploy.transitions import (
    Transition,
    read_annotation,
    read_annotations,
    read_predictor_version,
    read_target,
    round_percent,
)
from endcap.deploy.variants import (
    CANARY,
    REPLACES,
    REVISION,
    SHARE,
    STABLE,
    STABLE_TAG,
    is_template_ready,
    read_share,
)
from endcap.spec import Recommender

Json = dict[str, Any]


def plan_knative(
    recommender: Recommender, desired: Deployment, live: Json | None, namespace: str, *, room: bool
) -> Transition:
    """Find the next transition in Knative mode.

    Parameters
    ----------
    recommender, desired, live, namespace
        The spec, the desired state, and the InferenceService that is there, or None.
    room
        Whether one more predictor fits on the nodes, as far as known.

    Returns
    -------
    Transition
        The next step towards the desired state.

    Raises
    ------
    UserError
        The spec wants predictors with TLS.
    """
    check_no_tls(recommender.serving.kubernetes)
    service = _KnativeService(recommender, desired, live, namespace)
    stable, canary = desired.stable, desired.canary
    if not service.rolled:
        return service.everyone(stable, f"version {stable.version} starts")
    if not service.settled:
        return service.as_it_is()
    if service.stable != stable.version or service.stable_is_lost:
        return _replace_stable(service, stable)
    if canary is None:
        return _stable_alone(service, stable, room)
    if service.template != canary.version:
        return (
            service.pinned(f"back to version {service.stable}")
            if service.canary_has_all
            else service.at_zero(canary, announced=True)
        )
    if service.ready or (service.annotations.get(CANARY) == canary.version and read_share(service.annotations) > 0):
        return service.shared(canary, canary.share)
    return service.at_zero(canary, announced=True)


def _replace_stable(service: _KnativeService, stable: Target) -> Transition:
    if service.template != stable.version and service.canary_has_all:
        # It goes on until the new one is ready: the pods of the stable version before it may be gone.
        return service.everyone(read_target(service.predictor), f"version {service.template} has everyone")
    if service.template != stable.version:
        return service.at_zero(stable, announced=True)
    if service.ready:
        return service.everyone(stable, f"version {stable.version} gets everyone")
    return service.at_zero(stable, announced=True)


def _stable_alone(service: _KnativeService, stable: Target, room: bool) -> Transition:
    if service.template == stable.version:
        if service.percent is None or service.ready:
            return service.everyone(stable, f"version {stable.version} serves everyone")
        return service.at_zero(stable, announced=False)
    if service.canary_has_all:
        return service.pinned(f"back to version {stable.version}")
    if room:
        # Its pods stay only while nothing newer is ready: the stable version, once more, at first with no traffic.
        return service.at_zero(stable, announced=False)
    note = (
        f"version {service.template} has no traffic, but its pods stay, because nothing newer can start: "
        f"`endcap deploy {service.recommender.name}` lets them go when there is room for one more predictor"
    )
    return service.pinned(f"version {stable.version} serves everyone", done=True, note=note)


@dataclass(frozen=True)
class _KnativeService:
    """The InferenceService as it is, and the transitions from there."""

    recommender: Recommender
    desired: Deployment
    live: Json | None
    namespace: str

    @property
    def annotations(self) -> dict[str, str]:
        return read_annotations(self.live) if self.live else {}

    @property
    def stable(self) -> str:
        return self.annotations.get(STABLE, "")

    @property
    def predictor(self) -> Json:
        return self.live["spec"]["predictor"] if self.live else {}

    @property
    def template(self) -> str:
        """The version of the newest template."""
        return read_predictor_version(self.predictor)

    @property
    def percent(self) -> int | None:
        return self.predictor.get("canaryTrafficPercent")

    @property
    def status(self) -> Json:
        components = ((self.live or {}).get("status") or {}).get("components") or {}
        return components.get("predictor") or {}

    @property
    def rolled(self) -> str:
        """The revision that KServe keeps as the stable one."""
        return str(self.status.get("latestRolledoutRevision", ""))

    @property
    def ready(self) -> bool:
        return self.live is not None and is_template_ready(self.live)

    @property
    def newest(self) -> str:
        return str(self.status.get("latestCreatedRevision", ""))

    @property
    def beside(self) -> bool:
        """Whether the stable version has an older revision than the newest template's."""
        return self.annotations.get(STABLE_TAG) == "prev"

    @property
    def settled(self) -> bool:
        """Whether KServe has noted who had all traffic last: until then it would split off the one before."""
        if not self.beside:
            return self.rolled == self.status.get("latestReadyRevision")
        return self.percent != 100 or self.rolled == self.newest

    @property
    def canary_has_all(self) -> bool:
        """KServe takes a canary that had everything for the stable one, until its traffic is taken away."""
        return self.beside and self.template != self.stable and self.rolled == self.newest

    @property
    def stable_is_lost(self) -> bool:
        """KServe splits with another revision than the stable version's, which must come in anew."""
        known = self.annotations.get(REVISION, "")
        return self.beside and known != "" and self.rolled not in (known, self.newest)

    def everyone(self, target: Target, words: str) -> Transition:
        predictor = predictor_manifests.render_predictor(self.recommender, "Knative", target)
        service = self._service(predictor, target.version, "latest")
        unchanged = read_annotation(predictor, TEMPLATE) == read_annotation(self.predictor, TEMPLATE)
        done = self.desired.canary is None and self.stable == target.version and self.ready and unchanged
        return Transition(service, words, done=done, starting=target)

    def at_zero(self, target: Target, *, announced: bool) -> Transition:
        predictor = predictor_manifests.render_predictor(self.recommender, "Knative", target)
        predictor["canaryTrafficPercent"] = 0
        service = self._service(predictor, self.stable, "prev", target.version if announced else None)
        words = f"version {target.version} starts, with no traffic yet"
        if target.version == self.stable:
            words = f"version {target.version} has everyone; its pods restart, so that the pods beside it can go"
        return Transition(service, words, starting=target)

    def shared(self, target: Target, share: float) -> Transition:
        predictor = predictor_manifests.render_predictor(self.recommender, "Knative", target)
        predictor["canaryTrafficPercent"] = round_percent(share)
        service = self._service(predictor, self.stable, "prev", target.version, share)
        words = f"version {target.version} gets {share:.4g} of the shoppers, version {self.stable} the rest"
        unchanged = read_annotation(predictor, TEMPLATE) == read_annotation(self.predictor, TEMPLATE)
        noted = self.rolled == (self.newest if share == 1 else self.annotations.get(REVISION))
        return Transition(service, words, done=self.ready and unchanged and noted, starting=target)

    def as_it_is(self) -> Transition:
        """Wait."""
        share = read_share(self.annotations) if CANARY in self.annotations else 0.0
        tag = self.annotations.get(STABLE_TAG, "latest")
        service = self._service(copy.deepcopy(self.predictor), self.stable, tag, self.annotations.get(CANARY), share)
        return Transition(service, f"KServe takes note of version {self.template}")

    def pinned(self, words: str, *, done: bool = False, note: str = "") -> Transition:
        """Take the newest revision's traffic away, and change nothing else: a changed template would start pods."""
        predictor = copy.deepcopy(self.predictor)
        predictor["canaryTrafficPercent"] = 0
        return Transition(self._service(predictor, self.stable, "prev"), words, done=done, note=note)

    def _service(self, predictor: Json, stable: str, tag: str, canary: str | None = None, share: float = 0.0) -> Json:
        replaces = self.annotations.get(REPLACES, "")
        if read_annotation(predictor, TEMPLATE) != read_annotation(self.predictor, TEMPLATE):
            replaces = self.newest
        annotations = {STABLE: stable, STABLE_TAG: tag, REPLACES: replaces, **make_state_marks(self.desired, self.live)}
        if tag == "prev":
            annotations[REVISION] = self.annotations.get(REVISION) or self.rolled
        if canary is not None:
            annotations |= {CANARY: canary, SHARE: f"{share:g}"}
        return manifests.render_inference_service(self.recommender, self.namespace, "Knative", predictor, annotations)
