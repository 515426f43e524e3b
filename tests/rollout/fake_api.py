"""An API server with KServe in Standard mode behind it, at the transport of the official client: objects in memory.

It keeps what the tests rely on: versions and generations, conditional writes, subresources, refusals as Status objects.
Server-side apply replaces what it names; one manager owns everything. Pods are ready at once.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

from kubernetes.client.exceptions import ApiException

from endcap.cluster import Cluster
from endcap.deploy.predictor_manifests import TEMPLATE
from endcap.deploy.transitions import read_annotation
from endcap.deploy.variants import Variants, read_variants
from endcap.retries import RetryLimits

Json = dict[str, Any]
NAMESPACE = "shop"
_PATH = re.compile(r"/apis?/(?:[\w.]+/)?v\w+/namespaces/([\w-]+)/(\w+)(?:/([\w.-]+))?(/status)?$")
_SCHEMA = {
    "components": {
        "schemas": {
            "InferenceService": {
                "x-kubernetes-group-version-kind": [{"group": "serving.kserve.io", "kind": "InferenceService"}],
                "properties": {
                    "status": {"properties": {"servingRuntimeName": {}}},
                    "spec": {"properties": {"canary": {}}},
                },
            }
        }
    }
}


class _Answer:
    def __init__(self, document: Json) -> None:
        self.data = json.dumps(document).encode()


class FakeApi:
    """Stands for the official client's `ApiClient`. `disturb` is called before and after each request's effect."""

    def __init__(self, read_clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.objects: dict[tuple[str, str], Json] = {}
        self.disturb: Callable[[str], None] = lambda moment: None
        self.ending = False
        """Whether the namespace is being deleted."""
        self._read_clock = read_clock
        self._number = 0

    def connect(self) -> Cluster:
        return Cluster(self, "https://api.test", RetryLimits(total=0.0))

    def get(self, plural: str, name: str) -> Json:
        return self.objects[plural, name]

    def edit(self, plural: str, name: str, change: Callable[[Json], None]) -> None:
        """Change an object by hand."""
        thing = copy.deepcopy(self.objects[plural, name])
        change(thing)
        self._store(plural, thing)

    def add(self, plural: str, thing: Json) -> None:
        """Create an object by hand."""
        self._create(plural, thing)

    def delete(self, plural: str, name: str) -> None:
        """Delete an object by hand."""
        del self.objects[plural, name]

    @property
    def variants(self) -> Variants | None:
        """What gateways read."""
        service = self.objects.get(("inferenceservices", "shoes"))
        return None if service is None else read_variants(service)

    def call_api(self, path: str, method: str, *, body: Any = None, **_: Any) -> _Answer:
        self.disturb("before")
        answer = self._handle(path, method, body)
        self.disturb("after")
        return _Answer(answer)

    def _handle(self, path: str, method: str, body: Any) -> Json:
        parts = urlsplit(path)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        if parts.path.startswith("/openapi"):
            return _SCHEMA if "serving.kserve.io" in parts.path else {}
        match = _PATH.match(parts.path)
        if match is None:
            # What lies outside of the namespace, such as nodes.
            raise _refuse(403, "Forbidden", parts.path)
        _, plural, name, status = match.groups()
        if method == "POST":
            return self._create(plural, body)
        if method == "PATCH" and isinstance(body, list):
            return self._patch(plural, name, body)
        if method == "PATCH":
            return self._apply(plural, name, body, status=bool(status), dry_run=bool(query.get("dryRun")))
        if method == "DELETE":
            self.delete(plural, name)
            return {}
        if name:
            if (plural, name) not in self.objects:
                raise _refuse(404, "NotFound", name)
            return self._show(plural, self.objects[plural, name])
        return {"metadata": {"resourceVersion": str(self._number)}, "items": self._list(plural)}

    def _list(self, plural: str) -> list[Json]:
        if plural == "deployments":
            return self._make_deployments()
        return [self._show(plural, thing) for (kind, _), thing in sorted(self.objects.items()) if kind == plural]

    def _create(self, plural: str, thing: Json) -> Json:
        if self.ending:
            raise _refuse(403, "Forbidden", thing["metadata"]["name"], [{"reason": "NamespaceTerminating"}])
        if (plural, thing["metadata"]["name"]) in self.objects:
            raise _refuse(409, "AlreadyExists", thing["metadata"]["name"])
        return self._store(plural, copy.deepcopy(thing))

    def _apply(self, plural: str, name: str, body: Json, *, status: bool, dry_run: bool) -> Json:
        live = self.objects.get((plural, name))
        for key in ("resourceVersion", "uid"):
            wanted = body["metadata"].get(key)
            if wanted is not None and (live is None or live["metadata"][key] != wanted):
                raise _refuse(409, "Conflict", name)
        if live is None and (status or self.ending):
            raise _refuse(*((404, "NotFound") if status else (403, "Forbidden")), name)
        after = copy.deepcopy(live or {})
        if status:
            after["status"] = copy.deepcopy(body["status"])
        else:
            after |= {key: value for key, value in copy.deepcopy(body).items() if key not in ("metadata", "status")}
            given = {key: value for key, value in body["metadata"].items() if key != "resourceVersion"}
            after["metadata"] = {**after.get("metadata", {}), **copy.deepcopy(given)}
        if dry_run:
            annotations = {
                "serving.kserve.io/deploymentMode": "Standard",
                **(after["metadata"].get("annotations") or {}),
            }
            return {**after, "metadata": {**after["metadata"], "annotations": annotations}}
        return self._show(plural, self._store(plural, after))

    def _patch(self, plural: str, name: str, steps: list[Json]) -> Json:
        """A JSON patch whose steps test or add entries of mappings."""
        if (plural, name) not in self.objects:
            raise _refuse(404, "NotFound", name)
        after = copy.deepcopy(self.objects[plural, name])
        for step in steps:
            *folders, key = (part.replace("~1", "/") for part in step["path"].split("/")[1:])
            place = after
            for folder in folders:
                place = place[folder]
            if step["op"] == "test" and place.get(key) != step["value"]:
                raise _refuse(422, "Invalid", name)
            place[key] = step["value"]
        return self._show(plural, self._store(plural, after))

    def _store(self, plural: str, thing: Json) -> Json:
        key = (plural, thing["metadata"]["name"])
        live = self.objects.get(key)
        metadata = thing["metadata"]
        metadata.setdefault("namespace", NAMESPACE)
        metadata.setdefault("uid", f"uid-{self._number}")
        metadata.setdefault("generation", 1)
        metadata.setdefault("creationTimestamp", self._read_clock().strftime("%Y-%m-%dT%H:%M:%SZ"))
        metadata.setdefault("resourceVersion", "0")
        if live is not None and live.get("spec") != thing.get("spec"):
            metadata["generation"] = live["metadata"]["generation"] + 1
        if live is None or live != thing:
            self._number += 1
            metadata["resourceVersion"] = str(self._number)
        self.objects[key] = thing
        return thing

    def _show(self, plural: str, thing: Json) -> Json:
        """The object with what KServe says of it: every predictor that is named has pods."""
        shown = copy.deepcopy(thing)
        if plural == "inferenceservices":
            canaries = [entry["predictor"]["name"] for entry in thing["spec"].get("canary") or []]
            shown["status"] = {
                "deploymentMode": "Standard",
                "conditions": [{"type": "PredictorReady", "status": "True"}],
                "canaryStatuses": [{"name": name, "ready": True} for name in canaries],
            }
        return shown

    def _make_deployments(self) -> list[Json]:
        deployments = []
        for (plural, _), service in self.objects.items():
            if plural != "inferenceservices":
                continue
            spec = service["spec"]
            if "name" not in spec["predictor"]:
                # What stands beside a recommender's own.
                continue
            for one in (spec["predictor"], *(entry["predictor"] for entry in spec.get("canary") or [])):
                annotations = {TEMPLATE: read_annotation(one, TEMPLATE)}
                deployments.append(
                    {
                        "metadata": {
                            "name": f"{service['metadata']['name']}-{one['name']}-predictor",
                            "generation": 1,
                        },
                        "spec": {"template": {"metadata": {"annotations": annotations}}},
                        "status": {
                            "observedGeneration": 1,
                            "updatedReplicas": 1,
                            "replicas": 1,
                            "availableReplicas": 1,
                        },
                    }
                )
        return deployments


def _refuse(status: int, reason: str, name: str, causes: list[Json] | None = None) -> ApiException:
    details = {"name": name, "causes": causes or []}
    body = {"kind": "Status", "reason": reason, "message": f"{reason}: {name}", "code": status, "details": details}
    error = ApiException(status=status, reason=reason)
    error.body = json.dumps(body)
    error.headers = {}
    return error
