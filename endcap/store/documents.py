"""Documents and their versions: everything that Endcap keeps as JSON says which version of its kind it is.

A document has two keys beside its own: `format`, a whole number, and `written_by`, the release that wrote it. Its kind
is known by its place: the first part of the name or of the artifact's address. A document without a number is one of
release 0.1.0, which wrote the first version of every kind.

A change that readers of the version before would stumble over counts the version up here, and adds the way from the
version before to `upgrades`. What readers can leave unread (a new key with a default) changes no version.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from endcap.errors import IntegrityError, UserError
from endcap.reading import parse_json
from endcap.spec_renames import migrate_facts, migrate_specs
from endcap.store import shapes
from endcap.store.base import Json, content_key

FORMAT, WRITTEN_BY = "format", "written_by"


@dataclass(frozen=True)
class Kind:
    """What this release knows of one kind of documents."""

    version: int = 1
    """What it writes."""
    upgrades: Mapping[int, Callable[[Json], Json]] = field(default_factory=dict)
    """From each older version that it reads to the next one."""
    decides: bool = False
    """Whether it is changed by several, and a change that is lost would be missed: such a document is not changed on a
    server that cannot keep two writers apart."""


KINDS = {
    # The list of an artifact's files; a package's `info.json`; a shop's rule data in the online store.
    "manifest": Kind(),
    "package": Kind(2, {1: migrate_facts}),
    "catalogue": Kind(),
    # Artifacts: the facts and the files of each.
    # 2, here and of `package` and `specs`: specs of models and whole specs have the names of endcap/v2.
    "snapshots": Kind(),
    "datasets": Kind(),
    "fits": Kind(),
    "trained": Kind(2, {1: migrate_facts}),
    "recipes": Kind(2, {1: migrate_facts}),
    "verdicts": Kind(2, {1: migrate_facts}),
    "refitted": Kind(),
    "packages": Kind(2, {1: migrate_facts}),
    "reports": Kind(),
    "comparisons": Kind(2, {1: migrate_facts}),
    "descriptions": Kind(),
    "recommendations": Kind(),
    # Documents that are replaced.
    # 2: since when each version is served. Readers of version 1 know no other keys.
    "deployments": Kind(2, {1: dict}, decides=True),
    "ingests": Kind(),
    "recipe-faults": Kind(),
    "runs": Kind(),
    "specs": Kind(2, {1: migrate_specs}),
    "searches": Kind(),
    "places": Kind(),
}
"""A kind that is not listed, such as of a step of one's own, has its first version."""


def kind_of(name: str) -> str:
    """The kind of what lies under a document's name, or under kind and key of an artifact."""
    return name.partition("/")[0]


def stamped(kind: str, document: Json) -> Json:
    """The document with its version and the release that writes it."""
    stamp = {FORMAT: _known(kind).version, WRITTEN_BY: release()}
    return {**stamp, **document, **stamp}


def opened(kind: str, document: Json, where: str, *, written_by: str | None = None) -> Json:
    """The document as this release's version of its kind, without `format` and `written_by`.

    Parameters
    ----------
    where
        What the document is called in errors: its address or its name.
    written_by
        The release that wrote it, where it stands elsewhere than in the document.

    Raises
    ------
    UserError
        With the code ``store.newer-format`` where a newer release wrote it, ``store.older-format`` where it is older
        than this release reads. Fields: `kind`, `found`, `known`, `written_by`, `where`.
    IntegrityError
        With the code ``store.no-document`` where it is no map, ``store.wrong-type`` where it is not of its kind's shape
        (`endcap.store.shapes`), ``store.name-unsafe`` where a manifest's names lead elsewhere.
    """
    if not isinstance(document, dict):
        raise IntegrityError(f"{where} is no JSON object", code="store.no-document", kind=kind, where=where)
    known, written = _known(kind), version_of(document)
    writer = document.get(WRITTEN_BY, written_by)
    fields = {"kind": kind, "found": written, "known": known.version, "written_by": writer, "where": where}
    cause = (
        f"{where} has format {written!r} of {kind}, written by Endcap {writer or '(unknown)'}; "
        f"this is Endcap {release()}, whose format is {known.version}"
    )
    if isinstance(written, bool) or not isinstance(written, int) or written > known.version:
        raise UserError(f"{cause}: install a newer Endcap here, or make it anew", code="store.newer-format", **fields)
    content = {key: value for key, value in document.items() if key not in (FORMAT, WRITTEN_BY)}
    for number in range(written, known.version):
        if number not in known.upgrades:
            raise UserError(
                f"{cause}: use the Endcap that wrote it, or make it anew", code="store.older-format", **fields
            )
        content = known.upgrades[number](content)
    shapes.check(kind, content, where)
    return content


def parsed(name: str, content: bytes, where: str) -> Json:
    """A document out of the bytes that lie under its name. Raises as `opened`."""
    try:
        document = parse_json(content)
    except ValueError as error:
        raise unreadable(name, where, error) from None
    return opened(kind_of(name), document, where)


def unreadable(name: str, where: str, error: Exception) -> IntegrityError:
    """The error of a document that is there and tells nothing."""
    return IntegrityError(
        f"{where} is no JSON object ({error}); delete it, or write it again",
        code="store.no-document",
        kind=kind_of(name),
        where=where,
    )


def opened_manifest(manifest: Json, where: str) -> Json:
    """An artifact's manifest, and the facts in it, which are a document of the artifact's kind. Raises as `opened`."""
    content = opened("manifest", manifest, where)
    content["facts"] = opened(kind_of(content_key(content["address"])), content["facts"], where)
    return content


def version_of(document: Json) -> Any:
    """The version that a document was written in; a number, unless a newer release writes something else."""
    return document.get(FORMAT, 1)


def decides(kind: str) -> bool:
    """Whether a change of such a document must not be lost."""
    return _known(kind).decides


def _known(kind: str) -> Kind:
    """What this release knows of a kind."""
    return KINDS.get(kind, Kind())


@functools.cache
def release() -> str:
    """This release of Endcap."""
    try:
        return version("endcap")
    except PackageNotFoundError:
        return "none"
