"""The way to a desired state, one safe transition at a time. Each is found anew from what the cluster has.

Nothing is remembered between transitions. So a deployer that dies, or a second one, goes on from wherever things are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from endcap.deploy.predictor_manifests import TEMPLATE
from endcap.deploy.state import Target
from endcap.deploy.variants import (
    CANARY,
    MODE,
    REPLACES,
    REVISION,
    SHARE,
    STABLE,
    STABLE_TAG,
    STATE_MARKS,
    TLS,
    VERSION,
)

Json = dict[str, Any]
_SCALING = ("minReplicas", "maxReplicas", "scaleMetric", "scaleTarget")
WEIGHTS = 10_000
"""An HTTPRoute's weights add up to this: shares are kept to a hundredth of a percent."""


@dataclass(frozen=True)
class Transition:
    """The next change of what a cluster serves."""

    service: Json
    """The InferenceService as it is to be now."""
    description: str
    """What is going on."""
    done: bool = False
    """This is the desired state, once the cluster has followed."""
    starting: Target | None = None
    """The version whose pods are waited for."""
    weights: dict[str, int] = field(default_factory=dict)
    """Standard: of our own HTTPRoute, by Service."""
    route_first: bool = False
    """Standard: the route changes before the InferenceService, which takes a Service away."""
    note: str = ""
    """For the person who deploys."""


def round_percent(share: float) -> int:
    """Round a share to whole percent, as KServe does. A share between nothing and everything stays between them."""
    return round(100 * share) if share in (0.0, 1.0) else min(99, max(1, round(100 * share)))


def read_annotations(service: Mapping[str, Any]) -> dict[str, str]:
    """Read the annotations of an InferenceService."""
    return service["metadata"].get("annotations") or {}


def read_annotation(predictor: Mapping[str, Any], key: str) -> str:
    """Read one of our annotations on a predictor; empty if it has none."""
    return str((predictor.get("annotations") or {}).get(key, ""))


def is_pending(transition: Transition, live: Json | None) -> bool:
    """Whether the transition still has to be applied."""
    return live is None or _identity(transition.service) != _identity(live)


def read_predictor_version(predictor: Mapping[str, Any]) -> str:
    """Read the registered version that a predictor serves."""
    return read_annotation(predictor, VERSION)


def read_target(predictor: Mapping[str, Any]) -> Target:
    """Read the version and package that a predictor of ours serves."""
    return Target(version=read_predictor_version(predictor), package=predictor["model"]["storageUri"])


def _identity(service: Json) -> list[object]:
    annotations = read_annotations(service)
    predictor = service["spec"]["predictor"]
    keys = (MODE, STABLE, CANARY, SHARE, STABLE_TAG, REPLACES, REVISION, *STATE_MARKS)
    canaries = [
        [
            read_annotation(entry["predictor"], TEMPLATE),
            read_annotation(entry["predictor"], TLS),
            entry["predictor"].get("minReplicas"),
            entry.get("trafficPercent", 0),
        ]
        for entry in service["spec"].get("canary") or []
    ]
    return [
        [annotations.get(key) for key in keys],
        read_annotation(predictor, TEMPLATE),
        read_annotation(predictor, TLS),
        [predictor.get(key) for key in ("canaryTrafficPercent", *_SCALING)],
        canaries,
    ]
