"""A Kubernetes cluster: objects in and out as plain dictionaries, retries, watches, and errors in words."""

from endcap.cluster.api_errors import (
    AbsentError,
    ConflictError,
    ForbiddenError,
    KindAbsentError,
    StaleError,
    UnreachableError,
)
from endcap.cluster.client import Cluster
from endcap.cluster.connect import connect
from endcap.cluster.kinds import ObjectKind
from endcap.cluster.object_diff import diff_objects

__all__ = [
    "AbsentError",
    "Cluster",
    "ConflictError",
    "ForbiddenError",
    "KindAbsentError",
    "ObjectKind",
    "StaleError",
    "UnreachableError",
    "connect",
    "diff_objects",
]
