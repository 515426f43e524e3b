"""What every container of Endcap's image may do: nothing but run as its own user."""

from __future__ import annotations

from typing import Any

USER = 10001
"""Of the image."""


def make_container_security() -> dict[str, Any]:
    """The `securityContext` of a container, as namespaces of the restricted profile want it."""
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "runAsUser": USER,
        "runAsGroup": USER,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
