"""The store's Secret in a pod: as variables, and as files for the certificates that it may hold."""

from __future__ import annotations

from typing import Any

from endcap.secrets import MOUNT
from endcap.store.s3_settings import MOUNTED, SECRET_KEYS

Json = dict[str, Any]
MOUNTS: list[Json] = [{"name": "store", "mountPath": MOUNTED, "readOnly": True}]
"""Where a container of the pod has the Secret's files."""


def build_variables(secret: str) -> list[Json]:
    """Build the variables of a container. The values stay in the Secret; what it lacks is not set."""
    keys: list[Json] = [
        {"name": key, "valueFrom": {"secretKeyRef": {"name": secret, "key": key, "optional": True}}}
        for key in SECRET_KEYS
    ]
    return [*keys, {"name": MOUNT, "value": MOUNTED}]


def build_volumes(secret: str) -> list[Json]:
    """Build the pod's volumes for `MOUNTS`."""
    return [{"name": "store", "secret": {"secretName": secret, "optional": True}}]
