"""The types of stored documents: the keys that readers rely on.

A key that is not listed may hold anything. A listed key may be missing, unless it is required: every release has
written a required key. No key of an artifact's facts is required. If a reader needs one that is missing, `StoredFacts`
in `endcap.store.schemas` raises an error that names the key.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Required

from annotated_types import Ge, Le, Predicate
from typing_extensions import TypedDict

Json = dict[str, Any]
_LARGEST_PID = 2**31 - 1


def _is_moment(text: str) -> bool:
    """Tell whether a text is a time in ISO 8601 with its zone."""
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False


def _is_digest(text: str) -> bool:
    """Tell whether a text is a SHA-256 in hexadecimal digits."""
    return len(text) == 64 and set(text) <= set("0123456789abcdef")


def _is_digest_or_empty(text: str) -> bool:
    return text == "" or _is_digest(text)


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


class _SourceFileDocument(TypedDict):
    mark: str
    kind: str
    member: str
    sha256: Annotated[str, Predicate(_is_digest_or_empty)]


class SourceIndexDocument(TypedDict):
    code: str
    files: dict[str, _SourceFileDocument]


class RecipeFaultDocument(TypedDict, total=False):
    package: str
    message: Required[str]


class _ErrorDocument(TypedDict, total=False):
    message: Required[str]
    code: str
    fields: Json | None


class StepDocument(TypedDict, total=False):
    """What the record of a run says of one step."""

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
    """The record of a run, or of one of its steps, which has a name below the run's."""

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


_TrialDocument = TypedDict(  # noqa: UP013 (the stored key `found` is no name of a field here)
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
    days: list[Json]
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


class ParsedDocument(TypedDict, total=False):
    files: list[str]
    days: list[Json]
    table: Json
    quarantine: Json


DatasetDocument = TypedDict(
    "DatasetDocument",
    {
        "snapshot": str,
        "from": int | None,
        "until": int | None,
        "content": str,
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


FitDocument = TypedDict(  # noqa: UP013 (the stored key `found` is no name of a field here)
    "FitDocument",
    {
        "found": Json,
        "history": list[dict[str, Any]],
        "device": Any,
    },
    total=False,
)


TrainedDocument = TypedDict(  # noqa: UP013 (the stored key `found` is no name of a field here)
    "TrainedDocument",
    {
        "dataset": str,
        "model": _ModelSpecDocument,
        "found": Json,
        "history": list[dict[str, Any]],
        "n_items": Count,
        "environment": dict[str, Any],
        "machine": Json,
        "counts": Json,
        "search": Json | None,
        "seconds": float,
        "providers": dict[str, str],
    },
    total=False,
)


RecipeDocument = TypedDict(  # noqa: UP013 (the stored key `found` is no name of a field here)
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


class _ReplayCheckDocument(TypedDict):
    answers: Required[dict[str, Count]]
    changed: Required[dict[str, Count]]


class ReplayDocument(TypedDict, total=False):
    passed: Required[bool]
    ended: Required[MomentText]
    seconds: Required[float]
    checks: Required[dict[str, _ReplayCheckDocument]]


SCHEMAS: dict[str, type] = {
    "manifest": ManifestDocument,
    "places": PlacesDocument,
    "ingests": IngestDocument,
    "source-indexes": SourceIndexDocument,
    "recipe-faults": RecipeFaultDocument,
    "runs": RunDocument,
    "searches": SearchDocument,
    "replays": ReplayDocument,
    "snapshots": SnapshotDocument,
    "parsed": ParsedDocument,
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
"""The type of each kind of document, as `endcap.store.documents` names kinds. A kind whose reader checks the whole
document itself, such as `deployments`, is not listed."""
