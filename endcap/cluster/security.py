"""The security contexts of pods and containers of Endcap's image, which runs as its own user and may do nothing else.

They meet the Pod Security Standard `restricted`.
"""

from __future__ import annotations

from typing import Any

USER = 10001
"""The user that the image runs as, which is also its group."""


def make_pod_security() -> dict[str, Any]:
    """Make the `securityContext` of a pod. Containers in it that set none of their own get the same user."""
    return {**_make_user_security(), "fsGroup": USER}


def make_container_security() -> dict[str, Any]:
    """Make the `securityContext` of a container, which cannot write to its image and has no capabilities."""
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
        **_make_user_security(),
    }


def _make_user_security() -> dict[str, Any]:
    """Make the settings that pods and containers share."""
    return {
        "runAsNonRoot": True,
        "runAsUser": USER,
        "runAsGroup": USER,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
