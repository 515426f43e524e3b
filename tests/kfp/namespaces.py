"""Who may do what in which namespace, and which names are taken: KFP's rules, in its words.

Held against KFP 2.17.0: backend/src/apiserver/server/{pipeline,experiment,run}_server.go and
resource/resource_manager.go (ReplaceNamespace, IsAuthorized), storage/pipeline_store.go and experiment_store.go.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.kfp.refusals import RefusedError

_EMPTY = {
    "experiments": "An experiment cannot have an empty namespace in multi-user mode",
    "runs": "A run cannot have an empty namespace in multi-user mode",
}
"""Of pipelines only, an empty namespace means something: those that all users share."""


@dataclass(frozen=True)
class User:
    """Somebody with an account. namespaces: those that this user may work in."""

    name: str
    namespaces: frozenset[str]


@dataclass
class Rules:
    """multi_user: whether namespaces count. users: by their tokens."""

    multi_user: bool = False
    users: dict[str, User] = field(default_factory=dict)

    def admit(self, user: User | None, verb: str, resource: str, namespace: str | None) -> str:
        """The namespace that counts. Raises RefusedError where the user may not do this there."""
        if not self.multi_user:
            return ""
        if not namespace:
            if resource in _EMPTY:
                raise RefusedError(400, f"Failed to authorize with API: Invalid input error: {_EMPTY[resource]}")
            if verb in ("get", "list"):
                return ""
            namespace = "kubeflow"  # who writes there, writes for all
        if user is None:
            words = "Failed to check authorization. User identity is empty in the request header"
            raise RefusedError(401, f"Failed to authorize with API: Unauthenticated: {words}")
        if namespace not in user.namespaces:
            request = f"Namespace:{namespace},Verb:{verb},Group:pipelines.kubeflow.org,Resource:{resource}"
            words = f"User '{user.name}' is not authorized with reason:  (request: &ResourceAttributes{{{request},}})"
            raise RefusedError(403, f"Failed to authorize with API: PermissionDenied: {words}: Unauthorized access")
        return "" if resource == "pipelines" and namespace == "kubeflow" else namespace

    @staticmethod
    def unique(records: list[dict[str, Any]], record: dict[str, Any], doing: str, kind: str) -> None:
        """Raises RefusedError where the namespace has one of that name."""
        if any(
            (one["display_name"], one["namespace"]) == (record["display_name"], record["namespace"]) for one in records
        ):
            words = f"The name {record['display_name']} already exists. Please specify a new name"
            raise RefusedError(409, f"{doing}: Already exist error: Failed to create a new {kind}. {words}")
