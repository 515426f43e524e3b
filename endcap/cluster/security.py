"""The security context of every container of Endcap's image: it runs as its own user and may do nothing else."""

from __future__ import annotations

from typing import Any

USER = 10001
"""Of the image."""


def make_container_security() -> dict[str, Any]:
    """Make a container's `securityContext`, as the Pod Security Standard `restricted` demands."""
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "runAsUser": USER,
        "runAsGroup": USER,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
