"""The schemas of stored documents. Each document is checked as it is read, so that no reader meets a wrong type later.

What is listed is what readers rely on. A key that is not listed may hold anything. One that is listed may be missing,
unless it is required: no release wrote a document of the kind without it. Of an artifact's facts none is required: a
reader that needs one that is missing is told so by `StoredFacts`.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Required

from annotated_types import Ge, Le, Predicate
from typing_extensions import TypedDict

from endcap.errors import IntegrityError
from endcap.store.safe_paths import find_name_fault, make_unsafe_name_error

if TYPE_CHECKING:
    from pydantic import TypeAdapter

Json = dict[str, Any]
_LARGEST_PID = 2**31 - 1


def _is_moment(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False


def _is_digest(text: str) -> bool:
    return len(text) == 64 and set(text) <= set("0123456789abcdef")


MomentText = Annotated[str, Predicate(_is_moment)]
"""A time in ISO 8601 with its zone."""
Count = Annotated[int, Ge(0)]


class FileDocument(TypedDict):
    bytes: Count
    sha256: Annotated[str, Predicate(_is_digest)]


class ManifestDocument(TypedDict):
    address: str
    created: MomentText
    facts: Json
    files: dict[str, FileDocument]


class _PlaceDocument(TypedDict):
    root: str
    since: MomentText


class PlacesDocument(TypedDict, total=False):
    places: list[_PlaceDocument]


class IngestDocument(TypedDict):
    snapshot: str


class RecipeFaultDocument(TypedDict, total=False):
    package: str
    message: Required[str]


class _ErrorDocument(TypedDict, total=False):
    message: Required[str]
    code: str
    fields: Json | None


class StepDocument(TypedDict, total=False):
    """Of a run: what a step said of itself."""

    state: Required[str]
    begun: str | None
    seconds: float | None
    error: _ErrorDocument | None
    cause: str | None


class _ProcessDocument(TypedDict):
    host: str
    pid: Annotated[int, Ge(1), Le(_LARGEST_PID)]


class _SpecDocument(TypedDict, total=False):
    fingerprint: str | None


class RunDocument(TypedDict, total=False):
    """A run's document, or that of one of its steps, which has a name below the run's."""

    state: str
    pipeline: str | None
    recommender: str | None
    shop: str | None
    started: dict[str, str | None]
    begun: str | None
    seconds: float | None
    ended: str | None
    process: _ProcessDocument | None
    data: Json
    spec: _SpecDocument
    steps: dict[str, StepDocument]
    step: str | None
    error: _ErrorDocument | None
    cause: str | None


_TrialDocument = TypedDict(  # noqa: UP013 (no name of ours is `found`, and this key is stored)
    "_TrialDocument",
    {
        "number": Required[int],
        "parameters": Required[Json],
        "state": str,
        "value": float | None,
        "history": list[dict[str, float]],
        "found": Json | None,
        "seconds": float,
        "error": str | None,
        "attempt": int,
        "inherited": bool,
    },
    total=False,
)


class SearchDocument(TypedDict, total=False):
    members: dict[str, list[_TrialDocument]]


class SnapshotDocument(TypedDict, total=False):
    fingerprint: str
    events: Count
    sessions: Count
    rows: Count
    duplicates: Count
    first: int | None
    last: int | None
    bad: dict[str, dict[str, int]]
    read: dict[str, int]
    left_out: dict[str, dict[str, int]]
    examples: dict[str, Json]
    items: Json | None
    customers: Json | None
    sources: list[Json]
    times: dict[str, int]
    empty_files: list[str]


DatasetDocument = TypedDict(
    "DatasetDocument",
    {
        "snapshot": str,
        "from": int | None,
        "until": int | None,
        "sessions": Count,
        "events": Count,
        "items": Count,
        "customers": Count,
        "session_gap_ms": int | None,
        "sessions_by": str | None,
        "event_types": list[str] | None,
        "before_filters": dict[str, Any],
        "dropped": dict[str, Any],
        "test": dict[str, Any] | None,
        "warnings": list[Any],
    },
    total=False,
)


class _ModelSpecDocument(TypedDict, total=False):
    name: str
    members: dict[str, Json]


FitDocument = TypedDict(  # noqa: UP013 (no name of ours is `found`, and this key is stored)
    "FitDocument",
    {
        "found": Json,
        "history": list[dict[str, Any]],
        "device": Any,
    },
    total=False,
)


TrainedDocument = TypedDict(  # noqa: UP013 (no name of ours is `found`, and this key is stored)
    "TrainedDocument",
    {
        "dataset": str,
        "model": _ModelSpecDocument,
        "found": Json,
        "history": list[dict[str, Any]],
        "n_items": Count,
        "environment": dict[str, Any],
        "counts": Json,
        "search": Json | None,
        "seconds": float,
    },
    total=False,
)


RecipeDocument = TypedDict(  # noqa: UP013 (no name of ours is `found`, and this key is stored)
    "RecipeDocument",
    {
        "package": str,
        "dataset": str,
        "model": _ModelSpecDocument,
        "found": Json,
        "environment": dict[str, Any],
    },
    total=False,
)


class VerdictDocument(TypedDict, total=False):
    dataset: str
    snapshot: str
    trained: str
    passed: bool | None
    outcome: str
    champion: Json | None
    models: dict[str, Json]
    metrics: dict[str, dict[str, float | None]]
    conditions: list[Json]
    evidence: Json
    counts: Json
    confidence: float
    question: str
    warnings: list[Any]
    predictions: Count
    sessions: Count
    mlflow_run: str | None


class PackageDocument(TypedDict, total=False):
    dataset: str
    recommender: str
    trained: str
    verdict: str
    fitted: str


class ComparisonDocument(TypedDict, total=False):
    dataset: str
    snapshot: str
    trained: dict[str, str]
    labels: list[str]
    differences: dict[str, dict[str, Any]]


class DescriptionDocument(TypedDict, total=False):
    snapshot: str
    dataset: str | None
    data: Json
    sessions: Json


class RecommendationsDocument(TypedDict, total=False):
    customers: Count
    version: str
    package: str
    dataset: str
    k: int


SCHEMAS: dict[str, type] = {
    "manifest": ManifestDocument,
    "places": PlacesDocument,
    "ingests": IngestDocument,
    "recipe-faults": RecipeFaultDocument,
    "runs": RunDocument,
    "searches": SearchDocument,
    "snapshots": SnapshotDocument,
    "datasets": DatasetDocument,
    "fits": FitDocument,
    "trained": TrainedDocument,
    "recipes": RecipeDocument,
    "verdicts": VerdictDocument,
    "packages": PackageDocument,
    "comparisons": ComparisonDocument,
    "descriptions": DescriptionDocument,
    "recommendations": RecommendationsDocument,
}
"""By kind, as in `endcap.store.documents`. What has a reader that checks all of it, such as `deployments`, has none."""


def check_schema(kind: str, document: Mapping[str, Any], where: str) -> None:
    """Raises IntegrityError (`store.wrong-type`) where a document is not of its kind's shape. where: its address or
    name."""
    adapter = _get_adapter(kind)
    if adapter is None or (kind != "manifest" and not document):
        return  # an empty document, such as an artifact without facts, says nothing
    from pydantic import ValidationError

    try:
        adapter.validate_python(document, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise _make_wrong_type_error(kind, where, ".".join(map(str, first["loc"])), first["msg"]) from None
    if kind == "manifest":
        _check_names(document["files"], where)


class StoredFacts(dict[str, Any]):
    """Facts out of a store: looking up what they do not hold raises IntegrityError (`store.key-missing`)."""

    where = ""

    def __missing__(self, key: str) -> Any:
        raise IntegrityError(
            f"{self.where} lacks the key {key!r}, which every artifact of its kind has; make the artifact again",
            code="store.key-missing",
            where=self.where,
            key=str(key),
        )


def wrap_facts(value: Any, where: str) -> Any:
    """Facts, and the maps and lists in them, as `StoredFacts`. where: the artifact's address."""
    if isinstance(value, dict):
        facts = StoredFacts({key: wrap_facts(item, where) for key, item in value.items()})
        facts.where = where
        return facts
    return [wrap_facts(item, where) for item in value] if isinstance(value, list) else value


@contextlib.contextmanager
def report_malformed(kind: str, where: str) -> Iterator[None]:
    """Turn errors of the block that come from a malformed document into an IntegrityError."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError, RecursionError) as error:
        raise _make_wrong_type_error(kind, where, "", f"{type(error).__name__}: {error}") from error


def _check_names(files: Mapping[str, object], where: str) -> None:
    """Names of files that could lead out of the folder, or stand in each other's way."""
    for name in files:
        parts = name.split("/")
        fault = find_name_fault(name)
        if (not fault and name in ("manifest.json", ".parts")) or parts[0] == ".parts":
            fault = "is kept for the store itself"
        if not fault and any("/".join(parts[:depth]) in files for depth in range(1, len(parts))):
            fault = "lies below another file"
        if fault:
            raise make_unsafe_name_error(name, where, fault)


def _make_wrong_type_error(kind: str, where: str, key: str, reason: str) -> IntegrityError:
    return IntegrityError(
        f"{where} is no document of {kind} that Endcap wrote ({f'{key}: ' if key else ''}{reason}); delete it, or make "
        "it again",
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
    from pydantic import TypeAdapter  # it takes long to import, and a store may only be written to

    return TypeAdapter(SCHEMAS[kind])
