"""A Kubernetes cluster: objects in and out as plain dictionaries, retries, watches, and errors in words."""

from endcap.cluster.answers import (
    AbsentError,
    ConflictError,
    ForbiddenError,
    KindAbsentError,
    StaleError,
    UnreachableError,
)
from endcap.cluster.client import Cluster
from endcap.cluster.connect import connect
from endcap.cluster.difference import difference
from endcap.cluster.kinds import Kind

__all__ = [
    "AbsentError",
    "Cluster",
    "ConflictError",
    "ForbiddenError",
    "Kind",
    "KindAbsentError",
    "StaleError",
    "UnreachableError",
    "connect",
    "difference",
]
