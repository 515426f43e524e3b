"""Endcap: from a shop's event log to a personalised ranking service.

`endcap.open(spec)` returns a project. Its methods run each step from the log to a ranking. `endcap.Client` and
`endcap.AsyncClient` ask a running service. Every error that Endcap raises on purpose is an `endcap.EndcapError`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "AsyncClient": "endcap.client",
    "Client": "endcap.client",
    "EndcapError": "endcap.errors",
    "Project": "endcap.project",
    "SpecError": "endcap.errors",
    "UserError": "endcap.errors",
    "open": "endcap.project",
}
_NAMES = {"open": "open_project"}

__all__ = ["AsyncClient", "Client", "EndcapError", "Project", "SpecError", "UserError", "__version__", "open"]

if TYPE_CHECKING:
    from endcap.client import AsyncClient, Client
    from endcap.errors import EndcapError, SpecError, UserError
    from endcap.project import Project
    from endcap.project import open_project as open  # noqa: A004 - `endcap.open`, as libraries of files say it


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: a client needs no pandas, and a project no HTTP library."""
    if name not in _HOMES:
        raise AttributeError(f"module 'endcap' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), _NAMES.get(name, name))
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
