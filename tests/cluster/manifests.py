"""Reads manifests out of module folders, and leads the API server's webhook calls to programs beside it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import yaml

Object = dict[str, Any]


def documents(path: Path) -> list[Object]:
    """The objects in a file, or in every .yaml of a folder (not of its subfolders)."""
    files = sorted(path.glob("*.yaml")) if path.is_dir() else [path]
    # libyaml's loader: CRDs are megabytes.
    read = (document for file in files for document in yaml.load_all(file.read_text(), yaml.CSafeLoader))
    return [document for document in read if document and document["kind"] != "Kustomization"]


def config_map(objects: list[Object], name: str, **data: str) -> Object:
    """One of the config maps, with some of its keys set and without the example that only people read."""
    found = copy.deepcopy(
        next(one for one in objects if one["kind"] == "ConfigMap" and one["metadata"]["name"] == name)
    )
    found["data"] = {key: value for key, value in found.get("data", {}).items() if key != "_example"} | data
    found["metadata"].pop("annotations", None)  # a checksum of that example
    return found


def namespace(name: str) -> Object:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def loopback_service(name: str, in_namespace: str) -> Object:
    """A Service that the API server resolves to this machine, where the program of its name runs."""
    spec = {"type": "ExternalName", "externalName": "localhost"}
    meta = {"name": name, "namespace": in_namespace}
    return {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": spec}


def leads_to(hooks: Object, in_namespace: str, service: str, port: int, authority: str | None = None) -> Object:
    """A webhook configuration that calls a Service on `port`; `authority`, base64, signs what it answers with."""
    led = copy.deepcopy(hooks)
    led["metadata"].pop("creationTimestamp", None)
    for hook in led["webhooks"]:
        client = hook["clientConfig"]
        client["service"] |= {"name": service, "namespace": in_namespace, "port": port}
        if authority:
            client["caBundle"] = authority
    return led
