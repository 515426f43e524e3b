"""Side services that go on although the desired state wants them no more, until its stable version can serve.

A stable version that has pods beside the recommender's own InferenceService need not start anew before shoppers meet
it. After a rollback everyone meets the previous version's pods. After an A/B test each arm keeps its shoppers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from endcap.deploy.state import Deployment
from endcap.deploy.targets import CanaryTarget
from endcap.deploy.transitions import read_annotations, read_target
from endcap.deploy.variants import STABLE, SideRole, name_share_mark, read_layout, read_share
from endcap.experiments.splits import CHALLENGERS

Json = dict[str, Any]


@dataclass(frozen=True)
class StandIn:
    """What goes on.

    Attributes
    ----------
    target
        Its version and share.
    load
        Which share of the shoppers its pods must bear, if it is not its own.
    """

    target: CanaryTarget
    load: float | None = None


def is_withdrawing(desired: Deployment, own: Json | None) -> bool:
    """Tell whether the recommender's own InferenceService still serves a version that was taken back."""
    return own is not None and desired.withdrawn is not None and read_annotations(own).get(STABLE) == desired.withdrawn


def is_ending_ab(desired: Deployment, own: Mapping[str, Any] | None) -> bool:
    """Tell whether an A/B test was won, and the recommender's own InferenceService does not serve the winner yet."""
    if own is None or desired.ab is not None:
        return False
    annotations = read_annotations(dict(own))
    return annotations.get(STABLE) != desired.stable.version and read_layout(annotations) is not None


def list_stand_in_roles(desired: Deployment, own: Json | None) -> tuple[SideRole, ...]:
    """List the roles whose side services may go on at this moment."""
    return ("previous",) if is_withdrawing(desired, own) else CHALLENGERS if is_ending_ab(desired, own) else ()


def find_stand_ins(
    desired: Deployment, own: Json | None, sides: Mapping[SideRole, Json | None]
) -> dict[SideRole, StandIn]:
    """Find what goes on, from what a cluster has.

    Parameters
    ----------
    desired
        The desired state.
    own
        The recommender's InferenceService.
    sides
        The side services by role, None for one that is not there.

    Returns
    -------
    dict
        By role. Empty if none of them has the stable version: then nobody gains by it.
    """
    stand_ins: dict[SideRole, StandIn] = {}
    for role in list_stand_in_roles(desired, own):
        side = sides.get(role)
        if side is None or side["metadata"].get("deletionTimestamp"):
            continue
        # Who may not end one sets its share to 0.
        share = read_share(read_annotations(side), name_share_mark(role)) or 1.0
        target = CanaryTarget(**read_target(side["spec"]["predictor"]).model_dump(), share=share)
        stand_ins[role] = StandIn(target, 1.0 if role == "previous" else None)
    versions = [stand_in.target.version for stand_in in stand_ins.values()]
    return stand_ins if desired.stable.version in versions else {}
