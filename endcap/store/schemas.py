"""Checks stored documents when they are read, so that no reader meets a wrong type later."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from endcap.errors import IntegrityError
from endcap.store.document_types import SCHEMAS
from endcap.store.safe_paths import find_name_fault, make_unsafe_name_error

if TYPE_CHECKING:
    from pydantic import TypeAdapter


def check_schema(kind: str, document: Mapping[str, Any], where: str) -> None:
    """Check a stored document against the type of its kind, so that no reader meets a wrong type later.

    Parameters
    ----------
    kind
        The kind of document, a key of `SCHEMAS`. Documents of other kinds are not checked.
    document
        The document. An empty one, such as the facts of an artifact without facts, is not checked; a manifest is.
    where
        The document's address or name, for the message.

    Raises
    ------
    IntegrityError
        A value has the wrong type (`store.wrong-type`), or a manifest names a file that could lead out of the
        artifact's folder (`store.name-unsafe`).
    """
    adapter = _get_adapter(kind)
    if adapter is None or (kind != "manifest" and not document):
        return
    from pydantic import ValidationError

    try:
        adapter.validate_python(document, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise _make_wrong_type_error(kind, where, ".".join(map(str, first["loc"])), first["msg"]) from None
    if kind == "manifest":
        _check_names(document["files"], where)


class StoredFacts(dict[str, Any]):
    """Facts that were read from a store. A missing key raises IntegrityError (`store.key-missing`)."""

    where = ""

    def __missing__(self, key: str) -> Any:
        raise IntegrityError(
            f"{self.where} lacks the key {key!r}, which every artifact of its kind has; make the artifact again",
            code="store.key-missing",
            where=self.where,
            key=str(key),
        )


def wrap_facts(value: Any, where: str) -> Any:
    """Wrap facts, so that a missing key raises IntegrityError in place of KeyError.

    Parameters
    ----------
    value
        The facts. The mappings and lists in them are wrapped too.
    where
        The artifact's address, for the message.

    Returns
    -------
    StoredFacts, list or object
        The same values, with `StoredFacts` in place of dictionaries.
    """
    if isinstance(value, dict):
        facts = StoredFacts({key: wrap_facts(item, where) for key, item in value.items()})
        facts.where = where
        return facts
    return [wrap_facts(item, where) for item in value] if isinstance(value, list) else value


@contextlib.contextmanager
def report_malformed(kind: str, where: str) -> Iterator[None]:
    """Turn an error of the block that a malformed document causes into an IntegrityError (`store.wrong-type`).

    Parameters
    ----------
    kind
        The kind of document that the block reads.
    where
        The document's address or name, for the message.

    Raises
    ------
    IntegrityError
        The block raised KeyError, TypeError, ValueError or another error that unexpected values cause.
    """
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError, RecursionError) as error:
        raise _make_wrong_type_error(kind, where, "", f"{type(error).__name__}: {error}") from error


def _check_names(files: Mapping[str, object], where: str) -> None:
    """Check that no file of a manifest could lead out of the folder or hide another file."""
    for name in files:
        parts = name.split("/")
        fault = find_name_fault(name)
        if (not fault and name in ("manifest.json", ".parts")) or parts[0] == ".parts":
            fault = "is reserved for the store itself"
        if not fault and any("/".join(parts[:depth]) in files for depth in range(1, len(parts))):
            fault = "lies below another file"
        if fault:
            raise make_unsafe_name_error(name, where, fault)


def _make_wrong_type_error(kind: str, where: str, key: str, reason: str) -> IntegrityError:
    return IntegrityError(
        f"{where}: this is not a document of the kind {kind} as Endcap writes it "
        f"({f'{key}: ' if key else ''}{reason}); delete it, or make it again",
        code="store.wrong-type",
        kind=kind,
        where=where,
        key=key,
        reason=reason,
    )


@functools.cache
def _get_adapter(kind: str) -> TypeAdapter[Any] | None:
    if kind not in SCHEMAS:
        return None
    # Pydantic takes long to import, and a process that only writes needs none of it.
    from pydantic import TypeAdapter

    return TypeAdapter(SCHEMAS[kind])
