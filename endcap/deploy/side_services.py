"""What a cluster serves beside a recommender's own InferenceService: a shadow, and arms that have one of their own.

They start after the recommender's versions serve as desired, and end before anything of these changes, so that they
hold nothing that those need. Their errors become notes, and fail no deployment: the shoppers of an arm that is not
ready meet the stable version.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from endcap.cluster import Cluster, ForbiddenError, UnreachableError
from endcap.cluster.kinds import INFERENCE_SERVICE
from endcap.deploy import manifests, object_names
from endcap.deploy.capacity import find_capacity
from endcap.deploy.ownership import check_not_terminating, check_side, wait_until_gone
from endcap.deploy.predictor_manifests import TEMPLATE, count_canary_pods
from endcap.deploy.readiness import find_problem
from endcap.deploy.state import CanaryTarget, Deployment, ShadowTarget
from endcap.deploy.transitions import read_annotation, read_target
from endcap.deploy.variants import Mode, SideRole, read_side_variant
from endcap.errors import ClusterError
from endcap.experiments.splits import CHALLENGERS
from endcap.spec import Recommender

Json = dict[str, Any]
SideTarget = CanaryTarget | ShadowTarget
_SERVES: dict[SideRole, str] = {
    "shadow": "{share:.4g} of the requests are copied to version {version}",
    "previous": "{share:.4g} of the shoppers meet the previous version {version}",
    "baseline": "{share:.4g} of all shoppers meet popularity",
    **dict.fromkeys(CHALLENGERS, "{share:.4g} of the shoppers meet the challenger {version}"),
}
_ENDS: dict[SideRole, str] = {
    "shadow": "no requests are copied any more",
    "previous": "its shoppers meet the stable version",
    "baseline": "its shoppers meet the other versions",
    **dict.fromkeys(CHALLENGERS, "its shoppers meet the other versions"),
}


def get_side_target(desired: Deployment, role: SideRole) -> SideTarget | None:
    """Return what a state wants in a role; None: nothing."""
    if role == "baseline" and desired.baseline is None and desired.popularity is not None:
        # The kill switch brings it, and it has no shoppers of its own.
        return CanaryTarget(**desired.popularity.model_dump(), share=0.0)
    return desired.shadow if role == "shadow" else desired.baseline if role == "baseline" else desired.arms.get(role)


def get_side_load(desired: Deployment, role: SideRole) -> float | None:
    """Return which share of the shoppers an arm's pods must bear at this moment; None: those that it has."""
    return 1.0 if role == "baseline" and desired.switch is not None else None


@dataclass(frozen=True)
class SideService:
    """The InferenceService of one role in a namespace: at most one."""

    role: SideRole
    recommender: Recommender
    cluster: Cluster
    namespace: str
    mode: Mode
    """The recommender's own."""
    apply: Callable[[Json], Json]
    tell: Callable[[str], None]

    def find(self) -> Json | None:
        """Read it. Raises ClusterError if an object of its name is not this recommender's in this role."""
        live = self.cluster.find(INFERENCE_SERVICE, self.name, self.namespace)
        check_side(live, self.recommender.name, self.namespace, self.role)
        return live

    @property
    def name(self) -> str:
        return object_names.name_side_service(self.recommender.name, self.namespace, self.role)

    def render(self, target: SideTarget, owner: Json | None, load: float | None = None) -> Json:
        """Render it.

        Parameters
        ----------
        target
            What is wanted.
        owner
            The recommender's InferenceService; None: there is none yet.
        load
            Which share of the shoppers its pods must bear (`get_side_load`).

        Raises
        ------
        UserError
            The package lies in a folder of some machine.
        """
        return manifests.render_side_service(
            self.recommender, self.namespace, self.mode, self.role, target, target.share, owner, load
        )

    def end(self, target: SideTarget | None, owner: Json | None) -> str:
        """Remove what is not wanted; returns a note, or nothing.

        Parameters
        ----------
        target
            What is wanted. None: nothing. An arm of another version ends before the wanted one starts: requests would
            be counted for one version while pods of the other still answer. A shadow's new pods take over from its old.
        owner
            The recommender's InferenceService.
        """
        try:
            live = self.find()
            if live is None or live["metadata"].get("deletionTimestamp") or self.stays(live, target):
                return ""
            self.tell(f"{self.name} ends: {self.describe_end()}")
            return self._delete(live, owner)
        except (ClusterError, UnreachableError) as error:
            return f"the {self.role} {self.name} could not be ended: {error}"

    def stays(self, live: Json, target: SideTarget | None) -> bool:
        """Tell whether what runs goes on as what is wanted; see `end`."""
        if target is None or self.role == "shadow":
            return target is not None
        return read_target(live["spec"]["predictor"]).version == target.version

    def describe_end(self) -> str:
        """Say what its end means for requests."""
        return _ENDS[self.role]

    def _delete(self, live: Json, owner: Json | None) -> str:
        try:
            self.cluster.delete(INFERENCE_SERVICE, self.name, self.namespace, uid=live["metadata"]["uid"])
        except ForbiddenError as error:
            # The account that pipelines run under may write InferenceServices, and delete none.
            idle = ShadowTarget(**read_target(live["spec"]["predictor"]).model_dump(), share=0.0)
            self.apply(self.render(idle, owner))
            return (
                f"{self.describe_end()}, but the pod of {self.name} stays ({error}): `endcap deploy "
                f"{self.recommender.name} --namespace {self.namespace}` by someone who may delete it ends it"
            )
        return ""

    def follow(self, target: SideTarget, owner: Json, *, wait: bool = False, load: float | None = None) -> str:
        """Serve this version; returns a note about its state.

        Parameters
        ----------
        target
            What is wanted.
        owner
            The recommender's InferenceService.
        wait
            Wait for the end of one that is being deleted.
        load
            Which share of the shoppers its pods must bear (`get_side_load`).
        """
        try:
            before = self.find()
            if wait and before is not None and before["metadata"].get("deletionTimestamp"):
                wait_until_gone(self.cluster, before, self.namespace)
                before = None
            check_not_terminating(before, self.namespace)
            if before is None and (words := self._describe_shortage(target, load)):
                self.tell(words)
            return self._describe_standing(target, before, self.apply(self.render(target, owner, load)), load)
        except (ClusterError, UnreachableError) as error:
            return f"version {target.version} is no {self.role} yet: {error}"

    def _describe_shortage(self, target: SideTarget, load: float | None) -> str:
        """Describe what the nodes lack for its pods."""
        serving = self.recommender.serving.kubernetes
        if self.role == "shadow":
            return find_capacity(self.cluster, serving).description
        pods = count_canary_pods(serving, target.share if load is None else load)
        return find_capacity(self.cluster, serving.canary or serving, pods).description

    def _describe_standing(self, target: SideTarget, before: Json | None, after: Json, load: float | None) -> str:
        words = _SERVES[self.role] if load is None else "everyone meets {version}"
        serves = words.format(share=target.share, version=target.version)
        old, new = (
            read_annotation(service["spec"]["predictor"], TEMPLATE) if service else "" for service in (before, after)
        )
        side = read_side_variant(after)
        if old == new and side is not None and side.variant.ready:
            return serves
        created = datetime.fromisoformat(after["metadata"]["creationTimestamp"])
        problem = find_problem(self.cluster, after, target.version, created)
        return f"{serves} once it is ready" + (f"; now: {problem.description}" if problem else "")
