"""The shadow in a cluster: an InferenceService of its own, which never delays the versions that serve.

It starts after they serve as desired, and ends before anything of them changes, so that it holds nothing that they
need. Its errors become notes, and fail no deployment.
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
from endcap.deploy.ownership import check_not_terminating, check_shadow
from endcap.deploy.predictor_manifests import TEMPLATE
from endcap.deploy.readiness import find_problem
from endcap.deploy.state import ShadowTarget
from endcap.deploy.transitions import read_annotation, read_target
from endcap.deploy.variants import Mode, read_shadow
from endcap.errors import ClusterError
from endcap.spec import Recommender

Json = dict[str, Any]


@dataclass(frozen=True)
class Shadows:
    """A recommender's shadow in a namespace: at most one."""

    recommender: Recommender
    cluster: Cluster
    namespace: str
    mode: Mode
    """The recommender's own."""
    apply: Callable[[Json], Json]
    tell: Callable[[str], None]

    def find(self) -> Json | None:
        """Read it. Raises ClusterError if an object of its name is not this recommender's shadow."""
        live = self.cluster.find(INFERENCE_SERVICE, self.name, self.namespace)
        check_shadow(live, self.recommender.name, self.namespace)
        return live

    @property
    def name(self) -> str:
        return object_names.name_shadow(self.recommender.name, self.namespace)

    def service(self, shadow: ShadowTarget, owner: Json | None) -> Json:
        """Render its InferenceService. owner: the recommender's, None if there is none yet. Raises UserError."""
        return manifests.render_shadow_service(self.recommender, self.namespace, self.mode, shadow, shadow.share, owner)

    def end(self, owner: Json | None) -> str:
        """Remove the shadow; returns a note, or nothing. owner: the recommender's InferenceService."""
        try:
            live = self.find()
            if live is None or live["metadata"].get("deletionTimestamp"):
                return ""
            self.tell(f"{self.name} ends: no requests are copied any more")
            return self._delete(live, owner)
        except (ClusterError, UnreachableError) as error:
            return f"the shadow {self.name} could not be ended: {error}"

    def _delete(self, live: Json, owner: Json | None) -> str:
        try:
            self.cluster.delete(INFERENCE_SERVICE, self.name, self.namespace, uid=live["metadata"]["uid"])
        except ForbiddenError as error:
            # The account that pipelines run under may write InferenceServices, and delete none.
            idle = ShadowTarget(**read_target(live["spec"]["predictor"]).model_dump(), share=0.0)
            self.apply(self.service(idle, owner))
            return (
                f"no requests are copied any more, but the pod of {self.name} stays ({error}): `endcap deploy "
                f"{self.recommender.name} --namespace {self.namespace}` by someone who may delete it ends it"
            )
        return ""

    def follow(self, shadow: ShadowTarget, owner: Json) -> str:
        """Make this version the shadow; returns a note about its state."""
        try:
            before = self.find()
            check_not_terminating(before, self.namespace)
            if before is None and (words := self._room()):
                self.tell(words)
            return self._standing(shadow, before, self.apply(self.service(shadow, owner)))
        except (ClusterError, UnreachableError) as error:
            return f"version {shadow.version} is no shadow yet: {error}"

    def _room(self) -> str:
        """Describe what the nodes lack for one more pod."""
        return find_capacity(self.cluster, self.recommender.serving.kubernetes).description

    def _standing(self, shadow: ShadowTarget, before: Json | None, after: Json) -> str:
        copies = f"{shadow.share:.4g} of the requests are copied to version {shadow.version}"
        old, new = (
            read_annotation(service["spec"]["predictor"], TEMPLATE) if service else "" for service in (before, after)
        )
        copy_target = read_shadow(after)
        if old == new and copy_target is not None and copy_target.variant.ready:
            return copies
        created = datetime.fromisoformat(after["metadata"]["creationTimestamp"])
        problem = find_problem(self.cluster, after, shadow.version, created)
        return f"{copies} once it is ready" + (f"; now: {problem.description}" if problem else "")
