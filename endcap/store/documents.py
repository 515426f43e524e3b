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
from endcap.safe_reading import parse_json
from endcap.spec_renames import migrate_facts, migrate_specs
from endcap.store import schemas
from endcap.store.base import Json, get_content_key

FORMAT, WRITTEN_BY = "format", "written_by"


@dataclass(frozen=True)
class DocumentKind:
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
    "manifest": DocumentKind(),
    "package": DocumentKind(2, {1: migrate_facts}),
    "catalogue": DocumentKind(),
    # Artifacts: the facts and the files of each.
    # 2, here and of `package` and `specs`: specs of models and whole specs have the names of endcap/v2.
    # 2: events lie by day with their places, and the facts list the days. A reader of events refuses what lacks them.
    "snapshots": DocumentKind(2, {1: dict}),
    "parsed": DocumentKind(),
    "coded": DocumentKind(),
    "datasets": DocumentKind(),
    "fits": DocumentKind(),
    "trained": DocumentKind(2, {1: migrate_facts}),
    "recipes": DocumentKind(2, {1: migrate_facts}),
    "verdicts": DocumentKind(2, {1: migrate_facts}),
    "refitted": DocumentKind(),
    "packages": DocumentKind(2, {1: migrate_facts}),
    "baselines": DocumentKind(),
    "reports": DocumentKind(),
    "comparisons": DocumentKind(2, {1: migrate_facts}),
    "descriptions": DocumentKind(),
    "recommendations": DocumentKind(),
    # Documents that are replaced.
    # 2: since when each version is served. 3: the previous version. 4: the baseline arm, and the switch to popularity.
    # Readers of any of them know no other keys.
    "deployments": DocumentKind(4, {1: dict, 2: dict, 3: dict}, decides=True),
    "rollouts": DocumentKind(decides=True),
    "schedules": DocumentKind(decides=True),
    "replays": DocumentKind(),
    "ingests": DocumentKind(),
    "forgotten": DocumentKind(decides=True),
    "tombstones": DocumentKind(),
    "source-indexes": DocumentKind(),
    "recipe-faults": DocumentKind(),
    "runs": DocumentKind(),
    "specs": DocumentKind(2, {1: migrate_specs}),
    "searches": DocumentKind(),
    "places": DocumentKind(),
}
"""A kind that is not listed, such as that of the user's own step, has version 1."""


def get_kind(name: str) -> str:
    """Return the kind of a document or an artifact: the part of its name (or of kind and key) before the first /."""
    return name.partition("/")[0]


def stamp_document(kind: str, document: Json) -> Json:
    """Add the version of its kind, and the release that writes it, to a document."""
    stamp = {FORMAT: _get_document_kind(kind).version, WRITTEN_BY: get_release()}
    return {**stamp, **document, **stamp}


def open_document(kind: str, document: Json, where: str, *, written_by: str | None = None) -> Json:
    """Bring a stored document to this release's version of its kind, and check it.

    Parameters
    ----------
    kind
        The document's kind.
    document
        The document as it was stored.
    where
        What errors call the document: its address or its name.
    written_by
        The release that wrote it, if that is recorded outside of the document.

    Returns
    -------
    dict
        The document, without `format` and `written_by`.

    Raises
    ------
    UserError
        A newer release wrote it (``store.newer-format``), or it is older than this release reads
        (``store.older-format``). Fields: `kind`, `found`, `known`, `written_by`, `where`.
    IntegrityError
        It is not a JSON object (``store.no-document``), a value has the wrong type (``store.wrong-type``,
        `endcap.store.schemas`), or a manifest names a file outside of its folder (``store.name-unsafe``).
    """
    if not isinstance(document, dict):
        raise IntegrityError(
            f"{where} is not a JSON object; delete it, or write it again",
            code="store.no-document",
            kind=kind,
            where=where,
        )
    kind_info, version_found = _get_document_kind(kind), read_format(document)
    writer = document.get(WRITTEN_BY, written_by)
    fields = {"kind": kind, "found": version_found, "known": kind_info.version, "written_by": writer, "where": where}
    cause = (
        f"{where} has format {version_found!r} of {kind}, written by Endcap {writer or '(unknown)'}; "
        f"this is Endcap {get_release()}, whose format is {kind_info.version}"
    )
    if isinstance(version_found, bool) or not isinstance(version_found, int) or version_found > kind_info.version:
        raise UserError(f"{cause}: install a newer Endcap here, or make it again", code="store.newer-format", **fields)
    content = {key: value for key, value in document.items() if key not in (FORMAT, WRITTEN_BY)}
    for number in range(version_found, kind_info.version):
        if number not in kind_info.upgrades:
            raise UserError(
                f"{cause}: use the Endcap that wrote it, or make it again", code="store.older-format", **fields
            )
        content = kind_info.upgrades[number](content)
    schemas.check_schema(kind, content, where)
    return content


def parse_document(name: str, content: bytes, where: str) -> Json:
    """Parse the content of a document and open it. Raises the errors of `open_document`."""
    try:
        document = parse_json(content)
    except ValueError as error:
        raise make_unreadable_document_error(name, where, error) from None
    return open_document(get_kind(name), document, where)


def make_unreadable_document_error(name: str, where: str, error: Exception) -> IntegrityError:
    """Make the error for a document that exists but is not JSON."""
    return IntegrityError(
        f"{where} is not a JSON object ({error}); delete it, or write it again",
        code="store.no-document",
        kind=get_kind(name),
        where=where,
    )


def open_manifest(manifest: Json, where: str) -> Json:
    """Open a manifest and the facts in it. Raises the errors of `open_document`."""
    content = open_document("manifest", manifest, where)
    content["facts"] = open_document(get_kind(get_content_key(content["address"])), content["facts"], where)
    return content


def read_format(document: Json) -> Any:
    """The version that a document was written in; a number, unless a newer release writes something else."""
    return document.get(FORMAT, 1)


def is_decisive(kind: str) -> bool:
    """Tell whether no change of a document of this kind may be lost."""
    return _get_document_kind(kind).decides


def _get_document_kind(kind: str) -> DocumentKind:
    """Return what this release knows of a kind."""
    return KINDS.get(kind, DocumentKind())


@functools.cache
def get_release() -> str:
    """Return the version of this release of Endcap."""
    try:
        return version("endcap")
    except PackageNotFoundError:
        return "none"
