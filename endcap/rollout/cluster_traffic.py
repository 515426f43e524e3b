"""A cluster made to follow a recommender's desired state, as often as either changes."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from endcap.cluster import Cluster
from endcap.deploy.kill_switch import is_forgotten
from endcap.deploy.popularity import switch_to_popularity
from endcap.deploy.reconcile import reconcile
from endcap.deploy.state import Deployment, find_state, read_state
from endcap.deploy.variants import POPULARITY_ONLY
from endcap.errors import EndcapError, NotFoundError
from endcap.registry.package import read_recommender
from endcap.rollout.resource import Obstacle
from endcap.spec import Recommender
from endcap.store import Store

Json = dict[str, Any]
log = logging.getLogger("endcap.rollouts")
RESYNC = timedelta(minutes=5)
"""How often the cluster is compared with the desired state although neither has changed."""
RESYNC_WITH_NOTES = timedelta(seconds=15)
"""How often, as long as something is to be said of it, such as of an arm that is not ready."""
IN_PROGRESS = "in-progress"
"""The code of a change that pods are waited for."""


class TrafficFollower:
    """Carries the desired state of one recommender into a namespace. Fields that others changed are put back.

    Parameters
    ----------
    cluster, namespace
        Where the recommender is served.
    store
        Holds the desired state, and the packages.
    recommender
        Its name.
    """

    def __init__(self, cluster: Cluster, namespace: str, store: Store, recommender: str) -> None:
        self._cluster, self._namespace = cluster, namespace
        self._store, self._recommender = store, recommender
        self._specs: dict[str, Recommender] = {}
        self._followed: tuple[Any, ...] | None = None
        self._moment, self._resync = datetime.min.replace(tzinfo=UTC), RESYNC
        self._services: Sequence[Json] | None = None
        self._now = self._moment

    def begin_round(self, services: Sequence[Json] | None, now: datetime) -> None:
        """Take note of what is there.

        Parameters
        ----------
        services
            The recommender's InferenceServices as they were listed: its own, and those of its shadow and further arms.
            None: the namespace is not asked to serve it.
        now
            The present moment, UTC.
        """
        self._services, self._now = services, now

    def follow_now(self) -> None:
        """Take a step amid a round. What hinders it, the round's own step meets again."""
        with contextlib.suppress(EndcapError):
            self.follow()

    def follow(self) -> Obstacle | None:
        """Take the next step towards the desired state.

        Returns
        -------
        Obstacle or None
            Why the cluster does not serve the desired state yet; None if it does.

        Raises
        ------
        EndcapError
            The cluster or the store does not answer, or refuses.
        """
        desired = find_state(self._recommender, self._store)
        if desired is None or self._services is None:
            return None
        own = next((service for service in self._services if service["metadata"]["name"] == self._recommender), None)
        if is_forgotten(desired, own, self._now):
            # Somebody threw it in the cluster alone: now all of Endcap knows, and rollouts hold.
            desired = self._take_over_switch(desired)
        mark = (desired.changed, *map(_read_mark, self._services))
        if mark == self._followed and self._now - self._moment < self._resync:
            return None
        self._followed = None
        report = reconcile(
            self._find_spec(desired),
            lambda: read_state(self._recommender, self._store),
            self._cluster,
            self._namespace,
            force=True,
            wait=False,
            lies_at=self._store.lies_at,
        )
        if not report.done:
            return Obstacle(IN_PROGRESS, "; ".join(report.notes))
        self._followed, self._moment = mark, self._now
        self._resync = RESYNC_WITH_NOTES if report.notes else RESYNC
        return None

    def _take_over_switch(self, desired: Deployment) -> Deployment:
        """Write the cluster's kill switch into the desired state. If that fails, the annotation stays all the same."""
        why = f"the InferenceService says {POPULARITY_ONLY}"
        try:
            return switch_to_popularity(self._recommender, self._store, by="the cluster", why=why).state
        except EndcapError as error:
            log.warning("the cluster's kill switch is not in the desired state: %s", error)
            return desired

    def _find_spec(self, desired: Deployment) -> Recommender:
        """Return the spec that the newest version was trained by: what it needs, its pods get from the first one on."""
        canary, stable = desired.canary, desired.stable
        try:
            return self._read_spec((canary or stable).package)
        except NotFoundError:
            # The package is gone from the store. The other version must be served nevertheless.
            return self._read_spec(stable.package)

    def _read_spec(self, package: str) -> Recommender:
        if package not in self._specs:
            self._specs = {package: read_recommender(self._store.fetch(package))} | dict(list(self._specs.items())[:3])
        return self._specs[package]


def explain(error: EndcapError) -> Obstacle:
    """Return an error as an obstacle."""
    return Obstacle(error.code, str(error))


def _read_mark(service: Json) -> tuple[Any, ...]:
    """Return what tells whether somebody changed an InferenceService: its identity, spec and annotations."""
    metadata = service["metadata"]
    annotations = metadata.get("annotations") or {}
    return metadata["uid"], metadata.get("generation"), tuple(sorted(annotations.items()))
