"""Names of the objects of a recommender in a cluster, and which recommenders may have them."""

from __future__ import annotations

from typing import Any

from endcap.deploy.state import Target
from endcap.deploy.variants import SIDE_ROLES, SideRole, name_predictor_service
from endcap.errors import UserError
from endcap.store import fingerprint

Json = dict[str, Any]
LONGEST_NAME = 40
"""KServe and Knative make longer names and labels of it, which Kubernetes ends at 63 characters."""


def name_suffix(role: SideRole) -> str:
    """Name what a side's InferenceService ends with. No recommender's name may end so in a cluster."""
    return f"--{role}"


def name_side_service(recommender: str, namespace: str, role: SideRole) -> str:
    """Name a side's InferenceService, so that no recommender has the name and it is short enough.

    In Standard mode KServe makes a host name's label, at most 63 characters, of the predictor and the namespace.
    """
    room = min(LONGEST_NAME, 63 - len(f"-predictor-{namespace}")) - len(name_suffix(role))
    if len(recommender) > room:
        mark = fingerprint(role, recommender)[:7]
        recommender = f"{recommender[: max(1, room - len(mark) - 1)]}-{mark}"
    return recommender + name_suffix(role)


def name_own_route(recommender: str) -> str:
    """Name our own HTTPRoute. KServe's has the recommender's name."""
    return f"endcap-{recommender}"


def name_predictor(target: Target) -> str:
    """Standard mode: name a predictor by its version, so that its pods stay when it is promoted."""
    return f"v{target.version}"


def name_service(recommender: str, target: Target, *, named: bool = True) -> str:
    """Standard mode: name the Service in front of a version's pods."""
    return name_predictor_service(recommender, name_predictor(target) if named else None)


def check_recommender_name(recommender: str) -> None:
    """Raise UserError if a recommender's name cannot be an InferenceService's."""
    if len(recommender) > LONGEST_NAME or not recommender[0].isalpha():
        raise UserError(
            f"{recommender} cannot be served in a cluster: a name may have {LONGEST_NAME} characters and must "
            "begin with a letter, because KServe and Knative add to it. Rename the recommender",
            code="deploy.name-unfit",
            found=recommender,
            limit=LONGEST_NAME,
        )
    for role in SIDE_ROLES:
        if recommender.endswith(suffix := name_suffix(role)):
            raise UserError(
                f"{recommender} cannot be served in a cluster: a name that ends in {suffix} is for what runs beside "
                "another recommender. Rename the recommender",
                code="deploy.name-unfit",
                found=recommender,
                suffix=suffix,
            )
