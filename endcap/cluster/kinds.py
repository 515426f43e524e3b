"""The kinds of objects that Endcap reads and writes, and their paths in Kubernetes' API."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ObjectKind:
    """A kind of Kubernetes objects in one API version: `ObjectKind("apps/v1", "Deployment", "deployments")`."""

    api_version: str
    name: str
    plural: str
    namespaced: bool = True

    @property
    def group(self) -> str:
        """Empty for the core API."""
        return self.api_version.rpartition("/")[0]

    @property
    def resource(self) -> str:
        """The full name, such as deployments.apps."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def path(self, namespace: str | None = None, name: str | None = None) -> str:
        """The API path of one object, or of all. Without a namespace: of all namespaces."""
        parts = ["/apis" if self.group else "/api", self.api_version]
        if self.namespaced and namespace:
            parts += ["namespaces", namespace]
        return "/".join([*parts, self.plural, *([name] if name else [])])


NAMESPACE = ObjectKind("v1", "Namespace", "namespaces", namespaced=False)
NODE = ObjectKind("v1", "Node", "nodes", namespaced=False)
POD = ObjectKind("v1", "Pod", "pods")
EVENT = ObjectKind("v1", "Event", "events")
SECRET = ObjectKind("v1", "Secret", "secrets")
SERVICE_ACCOUNT = ObjectKind("v1", "ServiceAccount", "serviceaccounts")
DEPLOYMENT = ObjectKind("apps/v1", "Deployment", "deployments")
INFERENCE_SERVICE = ObjectKind("serving.kserve.io/v1beta1", "InferenceService", "inferenceservices")
SERVING_RUNTIME = ObjectKind("serving.kserve.io/v1alpha1", "ServingRuntime", "servingruntimes")
HTTP_ROUTE = ObjectKind("gateway.networking.k8s.io/v1", "HTTPRoute", "httproutes")
KNATIVE_ROUTE = ObjectKind("serving.knative.dev/v1", "Route", "routes")
RAY_CLUSTER = ObjectKind("ray.io/v1", "RayCluster", "rayclusters")
SPARK_APPLICATION = ObjectKind("sparkoperator.k8s.io/v1beta2", "SparkApplication", "sparkapplications")
LEASE = ObjectKind("coordination.k8s.io/v1", "Lease", "leases")
MODEL_ROLLOUT = ObjectKind("endcap.dev/v1alpha1", "ModelRollout", "modelrollouts")

_OBJECT_KINDS = (
    NAMESPACE,
    NODE,
    POD,
    EVENT,
    SECRET,
    SERVICE_ACCOUNT,
    DEPLOYMENT,
    INFERENCE_SERVICE,
    SERVING_RUNTIME,
    HTTP_ROUTE,
    KNATIVE_ROUTE,
    RAY_CLUSTER,
    SPARK_APPLICATION,
    LEASE,
    MODEL_ROLLOUT,
)


def find_object_kind(thing: Mapping[str, Any]) -> ObjectKind:
    """Find the kind of an object. Raises KeyError for a kind that Endcap does not use."""
    return {(kind.api_version, kind.name): kind for kind in _OBJECT_KINDS}[thing["apiVersion"], thing["kind"]]
