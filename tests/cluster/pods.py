"""A container's process as a kubelet would start it, on this machine: simulated nodes run none.

What is not the pod's: its image (this environment's packages stand for it), its user, its network and its limits.
"""

from __future__ import annotations

import base64
import json
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.given import Cluster

Json = dict[str, Any]
_ROOTS = ("/var/run", "/mnt")
"""Below these a pod's volumes are mounted; of this machine's own nothing is seen there."""


def secret(cluster: Cluster, namespace: str, name: str) -> dict[str, str]:
    """A Secret's keys as the API server has them; none where there is no such Secret."""
    found = cluster.kubectl("-n", namespace, "get", "secret", name, "-o", "json", "--ignore-not-found").stdout
    data = json.loads(found).get("data", {}) if found else {}
    return {key: base64.b64decode(value).decode() for key, value in data.items()}


def environment(cluster: Cluster, namespace: str, entries: Sequence[Json]) -> dict[str, str]:
    """What a container's `env` comes to. Raises KeyError where a Secret's key that is not optional is not there."""
    made = {}
    for entry in entries:
        if "valueFrom" not in entry:
            made[entry["name"]] = entry.get("value", "")
            continue
        asked = entry["valueFrom"]["secretKeyRef"]
        held = secret(cluster, namespace, asked["name"])
        if asked["key"] in held or not asked.get("optional"):
            made[entry["name"]] = held[asked["key"]]
    return made


def step_environment(platform: Json) -> list[Json]:
    """The `env` that KFP gives a step's container for its task's Kubernetes settings."""
    return [
        {
            "name": key["envVar"],
            "valueFrom": {
                "secretKeyRef": {
                    "name": one["secretName"],
                    "key": key["secretKey"],
                    "optional": one.get("optional", False),
                }
            },
        }
        for one in platform.get("secretAsEnv", [])
        for key in one["keyToEnv"]
    ]


def command(words: Sequence[str], given: Mapping[str, str], mounts: Mapping[str, Path], home: Path) -> list[str]:
    """The command line of a process that has this environment and no other, and these folders where a pod has them."""
    if os.geteuid() != 0:
        pytest.skip("what a pod has mounted is mounted by root only")
    own = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(home), "ENDCAP_CACHE": f"{home}/cache"}
    lines = [f"mount -t tmpfs none {root}" for root in _ROOTS]
    for place, folder in mounts.items():
        lines += [f"mkdir -p {place}", f"mount --bind {shlex.quote(str(folder))} {place}"]
    script = " && ".join([*lines, 'exec "$@"'])
    variables = [f"{name}={value}" for name, value in {**own, **given}.items()]
    return ["env", "-i", *variables, "unshare", "--mount", "sh", "-ec", script, "sh", *words]
