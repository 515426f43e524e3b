"""Translate an API server's refusals: who lacks which right, what is absent, who else owns a field."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from endcap.client_faults import find_page_title
from endcap.cluster.kinds import ObjectKind
from endcap.errors import ClusterError, TransientError


class AbsentError(ClusterError):
    """There is no object of this name."""


class KindAbsentError(ClusterError):
    """The cluster does not have this kind: the project that brings it is not installed."""


class ForbiddenError(ClusterError):
    """The user lacks the right to do this."""


class StaleError(ClusterError):
    """Someone else has changed the object since it was read. Read it again."""


class VersionExpiredError(ClusterError):
    """The server no longer has the resource version that was asked for. List again."""


class ConflictError(ClusterError):
    """Someone else owns fields that were to be set."""

    @property
    def managers(self) -> list[str]:
        """The field managers that own them."""
        return sorted(self.fields["held"])


class UnreachableError(TransientError):
    """The API server was away or busy for too long."""


INSTALLED_BY = {
    "serving.kserve.io": "KServe (https://kserve.github.io/website/docs/admin-guide/overview)",
    "gateway.networking.k8s.io": "the Gateway API (https://gateway-api.sigs.k8s.io/guides)",
    "ray.io": "KubeRay (https://docs.ray.io/en/latest/cluster/kubernetes)",
    "sparkoperator.k8s.io": "Kubeflow's Spark operator (https://github.com/kubeflow/spark-operator)",
    "serving.knative.dev": "Knative Serving (https://knative.dev/docs/install)",
}
_RBAC = re.compile(
    r'User "(?P<who>[^"]+)" cannot (?P<verb>\S+) resource "(?P<resource>[^"]+)" in API group "(?P<group>[^"]*)"'
    r'(?: in the namespace "(?P<namespace>[^"]+)"| at the cluster scope)'
)
_QUOTA = re.compile(r"exceeded quota: (.*)")


@dataclass(frozen=True)
class ApiCall:
    """A call to the API server, for messages."""

    verb: str
    kind: ObjectKind
    namespace: str | None = None
    name: str | None = None

    def __str__(self) -> str:
        what = f"{self.kind.name} {self.name}" if self.name else self.kind.resource
        return f"{what} in namespace {self.namespace}" if self.namespace and self.kind.namespaced else what

    @property
    def fields(self) -> dict[str, str | None]:
        """The same for an error's fields."""
        return {"verb": self.verb, "kind": self.kind.name, "namespace": self.namespace, "name": self.name}


@dataclass(frozen=True)
class ApiResponse:
    """The response to a refused call."""

    status: int
    body: str
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def status_object(self) -> dict[str, Any]:
        """The server's Status object; empty where the body is something else."""
        try:
            document = json.loads(self.body)
        except ValueError:
            return {}
        return document if isinstance(document, dict) else {}

    @property
    def message(self) -> str:
        # A login page or a proxy in front of the cluster answers with a whole page.
        body = find_page_title(self.body) if find_page_title(self.body) is not None else self.body
        return str(self.status_object.get("message") or body or f"status {self.status}").strip()

    @property
    def causes(self) -> list[dict[str, str]]:
        return (self.status_object.get("details") or {}).get("causes") or []


def translate_refusal(response: ApiResponse, call: ApiCall) -> ClusterError:
    """Make the error that a refusal means."""
    if response.status == 401:
        return ForbiddenError(
            f"the API server does not accept this login ({response.message}). The token or certificate in the "
            "kubeconfig may have expired. Log in again",
            code="cluster.unauthenticated",
            reason=response.message,
        )
    if response.status == 403:
        return _translate_forbidden(response, call)
    if response.status == 404:
        return _translate_not_found(response, call)
    if response.status == 409:
        return _translate_conflict(response, call)
    if response.status == 410:
        return VersionExpiredError(f"{call}: {response.message}", code="cluster.version-gone", **call.fields)
    return ClusterError(
        f"{call} was refused ({response.status}): {response.message}",
        code="cluster.refused",
        status=response.status,
        reason=response.message,
        **call.fields,
    )


def no_tls_error(reason: str, host: str) -> ClusterError:
    """Make the error of a TLS connection that fails."""
    return ClusterError(
        f"no TLS connection to the API server at {host} ({reason}). Correct certificate-authority and server in the "
        "kubeconfig, or get a new kubeconfig from the cluster's administrators",
        code="cluster.no-tls",
        host=host,
        reason=reason,
    )


def no_api_error(body: str, host: str) -> ClusterError:
    """Make the error of an answer that is no JSON, such as a login page in front of the cluster."""
    title = find_page_title(body)
    return ClusterError(
        f"the server at {host} is not a Kubernetes API server ({title or body[:100]}). Log in again, or correct server "
        "in the kubeconfig",
        code="cluster.no-api",
        host=host,
        title=title or "",
    )


def _translate_forbidden(response: ApiResponse, call: ApiCall) -> ClusterError:
    if any(cause.get("reason") == "NamespaceTerminating" for cause in response.causes):
        return ClusterError(
            f"namespace {call.namespace} is being deleted, so nothing can be created in it. Wait until it is "
            "gone and create it again, or use another namespace",
            code="cluster.namespace-ending",
            namespace=call.namespace,
        )
    if quota := _QUOTA.search(response.message):
        return ClusterError(
            f"{call}: the namespace's quota is reached ({quota[1]}). Raise the quota, or delete something",
            code="cluster.quota-reached",
            reason=quota[1],
            **call.fields,
        )
    if rule := _RBAC.search(response.message):
        group, namespace = rule["group"], rule["namespace"]
        resource = f"{rule['resource']}.{group}" if group else rule["resource"]
        where = f"in namespace {namespace}" if namespace else "in the whole cluster"
        bind = "Role and RoleBinding" if namespace else "ClusterRole and ClusterRoleBinding"
        return ForbiddenError(
            f"{rule['who']} may not {rule['verb']} {resource} {where}. Ask an administrator for a {bind} that allow "
            f'the verb "{rule["verb"]}" on "{rule["resource"]}" of the API group "{group}"',
            code="cluster.forbidden",
            who=rule["who"],
            verb=rule["verb"],
            resource=resource,
            namespace=namespace,
        )
    return ForbiddenError(
        f"{call} was refused: {response.message}", code="cluster.forbidden", reason=response.message, **call.fields
    )


def _translate_not_found(response: ApiResponse, call: ApiCall) -> ClusterError:
    # For a missing kind the answer is plain text; for a missing object it is a Status with the kind.
    if response.status_object.get("details", {}).get("kind") or response.status_object.get("details", {}).get("name"):
        if "namespaces" in response.message and call.namespace:
            return AbsentError(
                f"there is no namespace {call.namespace}. Create it: kubectl create namespace {call.namespace}",
                code="cluster.namespace-not-found",
                namespace=call.namespace,
            )
        return AbsentError(f"there is no {call}", code="cluster.not-found", **call.fields)
    project = INSTALLED_BY.get(call.kind.group)
    install = f". Install {project}, or a newer release of it" if project else ""
    return KindAbsentError(
        f"this cluster has no {call.kind.resource} of {call.kind.api_version}{install}",
        code="cluster.kind-unknown",
        kind=call.kind.name,
        api_version=call.kind.api_version,
        install=project,
    )


def _translate_conflict(response: ApiResponse, call: ApiCall) -> ClusterError:
    conflicts = [cause for cause in response.causes if cause.get("reason") == "FieldManagerConflict"]
    if not conflicts:
        return StaleError(
            f"someone else changed {call} at the same moment: {response.message}. Try again",
            code="cluster.stale",
            **call.fields,
        )
    fields: dict[str, list[str]] = {}
    for cause in conflicts:
        manager = re.search(r'conflict with "([^"]+)"', cause.get("message", ""))
        fields.setdefault(manager[1] if manager else "someone else", []).append(cause.get("field", "?").lstrip("."))
    managers = "; ".join(f"{manager} holds {', '.join(sorted(names))}" for manager, names in sorted(fields.items()))
    return ConflictError(
        f"others own fields of {call}: {managers}", code="cluster.conflict", held=fields, **call.fields
    )
