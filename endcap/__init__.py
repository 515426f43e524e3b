"""Endcap: from a shop's event log to a personalised ranking service."""

from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """`endcap.Client` and `endcap.AsyncClient`, whose HTTP library is imported when they are asked for."""
    if name in ("AsyncClient", "Client"):
        from endcap import client

        return getattr(client, name)
    raise AttributeError(f"module 'endcap' has no attribute {name!r}")
