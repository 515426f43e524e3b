"""Show a person what would change in an object."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

import yaml

_SERVERS = ("managedFields", "resourceVersion", "generation", "uid", "creationTimestamp", "selfLink")
"""Of the metadata: what the API server writes by itself."""


def diff_objects(before: Mapping[str, Any] | None, after: Mapping[str, Any], context: int = 3) -> str:
    """Compare two states of an object.

    Parameters
    ----------
    before
        None if the object does not exist yet.
    after
        The state after the change.
    context
        Unchanged lines around each change.

    Returns
    -------
    str
        Lines as `diff -u` writes them, of both objects as YAML; empty if nothing would change.
    """
    old = _lines(before) if before is not None else []
    name = f"{after['kind']}/{after['metadata']['name']}"
    lines = difflib.unified_diff(old, _lines(after), f"{name} (now)", f"{name} (then)", lineterm="", n=context)
    return "\n".join(lines)


def _lines(thing: Mapping[str, Any]) -> list[str]:
    metadata = {key: value for key, value in thing["metadata"].items() if key not in _SERVERS}
    shown = {key: value for key, value in thing.items() if key != "status"} | {"metadata": metadata}
    return yaml.safe_dump(shown, sort_keys=True, width=120).splitlines()
