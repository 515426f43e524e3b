"""The facts of a manifest that name what an artifact was made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

ROLES = ("package", "fitted", "trained", "comparison", "verdict", "dataset", "snapshot", "providers")
"""The facts that name what an artifact was made of, nearer ones first."""


@dataclass(frozen=True)
class Origin:
    """What an artifact was made of: the fact that names it, such as ``dataset``, and its address."""

    role: str
    address: str


def list_origins(facts: Mapping[str, Any]) -> tuple[Origin, ...]:
    """List what an artifact was made of, from the facts of its manifest as the store reads them.

    The champion that a verdict names is none of it: the model was judged against it, and not made of it. The parsed
    files of a snapshot are none either: its facts name the files themselves (`endcap.lineage.list_used_files`).
    """
    origins = []
    for role in ROLES:
        named = facts.get(role)
        # A comparison has a trained model for each label, a trained model a package for each label of scores.
        addresses = named.values() if isinstance(named, Mapping) else [named]
        origins += [Origin(role, address) for address in addresses if address]
    return tuple(origins)
