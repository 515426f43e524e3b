"""The kill switch in a cluster: one annotation of the recommender's InferenceService, which gateways follow at once.

Whoever may patch InferenceServices throws it, by `endcap deploy --popularity` or by kubectl, whatever else is going on.
The desired state follows: an annotation that is newer than the state stays, and the rollout controller takes it over.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from endcap.cluster import AbsentError, Cluster
from endcap.cluster.kinds import INFERENCE_SERVICE
from endcap.deploy.state import Deployment
from endcap.deploy.variants import (
    MANAGED_BY,
    MANAGER,
    OFF,
    POPULARITY_ONLY,
    is_popularity_only,
    settings_to_annotations,
)

Json = Mapping[str, Any]
COMMAND_TAKES = timedelta(minutes=1)
"""How long `endcap deploy --popularity` may take from the annotation to the desired state."""
_NEVER = datetime.max.replace(tzinfo=UTC)


def throw_in_cluster(recommender: str, cluster: Cluster, namespace: str, since: datetime) -> bool:
    """Have a cluster's gateways answer everyone with popularity, by one call that needs the right to patch alone.

    Parameters
    ----------
    recommender, cluster, namespace
        What is served, and where.
    since
        The present moment, UTC. A desired state that was written before does not take the switch back.

    Returns
    -------
    bool
        False if the recommender is not served there.

    Raises
    ------
    ClusterError
        Endcap did not make the InferenceService (``cluster.refused``).
    ForbiddenError, KindAbsentError, UnreachableError
        The cluster refuses, lacks KServe, or does not answer.
    """
    return _annotate(recommender, cluster, namespace, {POPULARITY_ONLY: since.isoformat()})


def show_switch(desired: Deployment, cluster: Cluster, namespace: str) -> bool:
    """Give a cluster's gateways the switch and the list of a desired state. It returns what `throw_in_cluster` does."""
    mark = desired.switch.since.isoformat() if desired.switch else OFF
    annotations = {POPULARITY_ONLY: mark, **settings_to_annotations(desired.gateway_terms)}
    return _annotate(desired.recommender, cluster, namespace, annotations)


def choose_switch_mark(desired: Deployment, live: Json | None) -> str:
    """Choose what the annotation says: what the desired state does, unless it was thrown after that was written."""
    if is_newer(desired, live):
        return _read_annotations(live)[POPULARITY_ONLY]
    return desired.switch.since.isoformat() if desired.switch is not None else OFF


def is_newer(desired: Deployment, live: Json | None) -> bool:
    """Tell whether the switch was thrown in the cluster after the desired state was written, which lacks it."""
    annotations = _read_annotations(live)
    return desired.switch is None and is_popularity_only(annotations) and _read_moment(annotations) > desired.changed


def is_forgotten(desired: Deployment, live: Json | None, now: datetime) -> bool:
    """Tell whether the desired state is to take the switch over from the cluster, where a person threw it alone.

    A command that threw it a moment ago writes the state itself, with who wanted it and why.
    """
    if not is_newer(desired, live):
        return False
    moment = _read_moment(_read_annotations(live))
    return moment == _NEVER or moment < now - COMMAND_TAKES


def _annotate(recommender: str, cluster: Cluster, namespace: str, annotations: Mapping[str, str]) -> bool:
    try:
        cluster.annotate(INFERENCE_SERVICE, recommender, namespace, annotations, {MANAGED_BY: MANAGER})
    except AbsentError:
        return False
    return True


def _read_annotations(live: Json | None) -> dict[str, str]:
    return (live["metadata"].get("annotations") or {}) if live is not None else {}


def _read_moment(annotations: Mapping[str, str]) -> datetime:
    """Read since when the switch is thrown. Another word is a person's, and counts as newer than any state."""
    try:
        moment = datetime.fromisoformat(annotations[POPULARITY_ONLY].strip())
    except ValueError:
        return _NEVER
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
