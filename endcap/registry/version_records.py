"""A registered version, and how it is read from MLflow's record of it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from endcap.errors import IntegrityError, UserError
from endcap.store import Store

VersionState = Literal["pending", "approved", "rejected"]
DIGEST_TAG = "package_digest"
"""The tag with the digest of the package's files, which stays the same when the store is moved."""
_ADDRESS_TAGS = ("dataset", "snapshot", "verdict")
"""The tags that hold addresses in the store."""


@dataclass(frozen=True)
class Version:
    """One registered version.

    Attributes
    ----------
    name
        The recommender.
    version
        The version's number, as MLflow counts.
    package
        The package's address in the store; as it was registered if the store lacks it or has another one.
    state
        ``pending``, ``approved`` or ``rejected``.
    by, when, why
        Who decided on the state (``gate`` or a person), when (ISO 8601) and for what reason.
    aliases
        ``champion``, ``challenger`` or none.
    tags
        MLflow's tags, such as ``dataset`` and ``commit``.
    created
        When the version was registered, epoch milliseconds.
    """

    name: str
    version: str
    package: str
    state: VersionState
    by: str
    when: str
    why: str
    aliases: list[str] = field(default_factory=list)
    tags: Mapping[str, str] = field(default_factory=dict)
    created: int = 0


def read_version(record: Any, aliases: Mapping[str, str], store: Store | None, *, moves_with_store: bool) -> Version:
    """Read a version from MLflow's record of it.

    Parameters
    ----------
    record
        MLflow's model version.
    aliases
        The version's number by alias, for all aliases of the recommender.
    store
        The store that holds the packages; None: addresses stay as they were registered.
    moves_with_store
        Whether the registry's data base lies in the store's folder. The addresses in it then belong to this store,
        even if the folder was moved.

    Returns
    -------
    Version
        The version, with addresses of the store as it is now.
    """
    tags = dict(record.tags)
    number = str(record.version)
    package = _locate_package(record.source, tags.get(DIGEST_TAG, ""), store, moves_with_store)
    if package != record.source and store is not None:
        tags |= store.translate({name: tags[name] for name in _ADDRESS_TAGS if name in tags})
    return Version(
        name=record.name,
        version=number,
        package=package,
        state=tags.get("state", "pending"),
        by=tags.get("decided_by", ""),
        when=tags.get("decided_when", ""),
        why=tags.get("decided_why", ""),
        aliases=sorted(alias for alias, alias_number in aliases.items() if alias_number == number),
        tags=tags,
        created=int(record.creation_timestamp),
    )


def _locate_package(source: str, digest: str, store: Store | None, moves_with_store: bool) -> str:
    """Return the address of a package in the store; its source unchanged if the store lacks it or has another one."""
    if store is None:
        return source
    # UserError: the address is of another store, or of a newer release.
    with contextlib.suppress(UserError, IntegrityError):
        return store.resolve(store.translate(source) if moves_with_store else source, digest=digest)
    return source
