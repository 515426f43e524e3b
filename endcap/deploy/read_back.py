"""Compare the traffic that the cluster really sends with the traffic that was asked for."""

from __future__ import annotations

import time

from endcap.deploy.reconciler import Reconciler
from endcap.deploy.traffic import (
    Traffic,
    compute_expected_shares,
    describe_shares,
)
from endcap.deploy.transitions import Transition, read_annotations
from endcap.deploy.variants import CANARY, name_predictor_service
from endcap.errors import ClusterError

SPLIT_WITHIN = 60.0
"""Seconds for the cluster's routes to follow once everything is ready."""
LOOK_WITHIN = 5.0
"""The same for KServe's own HTTPRoute, on which nothing depends: it may never carry the share."""


def read_back(reconciler: Reconciler, transition: Transition) -> list[Traffic]:
    """Read the traffic until it is as expected. Raises ClusterError if a route that must follow does not."""
    must_follow = reconciler.capabilities.mode == "Knative" or reconciler.own_route
    end = time.monotonic() + (SPLIT_WITHIN if must_follow else LOOK_WITHIN)
    expected = compute_expected_shares(transition, whole_percent=reconciler.capabilities.mode == "Knative")
    while True:
        traffic = reconciler.read_traffic()
        if traffic and traffic[0].shares == expected and not traffic[0].missing:
            break
        if time.monotonic() > end and not must_follow:
            break
        if time.monotonic() > end:
            actual = traffic[0] if traffic else "nothing can be read"
            raise ClusterError(
                f"the cluster does not send the traffic where it should go: expected "
                f"{describe_shares(expected)}, but {actual}",
                code="deploy.traffic-differs",
                wanted=describe_shares(expected),
                found=str(actual),
            )
        time.sleep(0.5)
        reconciler.live = reconciler.find() or reconciler.live
    _note_differences(reconciler, traffic, transition)
    return traffic


def _note_differences(reconciler: Reconciler, traffic: list[Traffic], transition: Transition) -> None:
    expected = compute_expected_shares(transition, whole_percent=True)
    kserve_route = traffic[-1] if traffic and reconciler.capabilities.mode == "Standard" else None
    if (
        kserve_route is not None
        and kserve_route.shares != expected
        and read_annotations(transition.service).get(CANARY)
    ):
        carried = (
            "our own HTTPRoute carries it"
            if reconciler.own_route
            else "the gateway shares shoppers out; for clients that go around it, set serving.kubernetes.route"
        )
        reconciler.notes.append(f"this release of KServe does not follow the share ({kserve_route}): {carried}")
    if not traffic:
        name = name_predictor_service(reconciler.recommender.name, None)
        reconciler.notes.append(f"the routes of {name} may not be read, so the split was not read back")
