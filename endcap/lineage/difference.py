"""What differs between two versions: their data, code, settings and metrics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from endcap.lineage.version_lineage import VersionLineage

Json = dict[str, Any]
Subject = Literal["data", "code", "settings", "metrics"]
_SIZES = ("events", "sessions", "items", "customers", "from", "until")


@dataclass(frozen=True)
class Difference:
    """A difference: what it is of, its name, and the values of both versions; None where a version has none.

    The value of a day is the key of its rows; that of a file is ``read``.
    """

    subject: Subject
    name: str
    first: Any
    second: Any


def compare_versions(first: VersionLineage, second: VersionLineage) -> list[Difference]:
    """List what differs between two versions, in the order of data, code, settings and metrics.

    Notes
    -----
    Data are equal if the datasets' content digests are. Days are compared by the key of their rows, files by the digest
    of their content, so a log that moved differs in nothing. Settings are the resolved specs of the runs, without
    defaults that neither names, and the packages whose scores a model takes. A dataset that was removed because a
    customer is forgotten is told by ``forgotten``, which names the request.
    """
    differences = [Difference("data", *values) for values in _compare(_describe_data(first), _describe_data(second))]
    days = _compare(first.list_days(), second.list_days())
    differences += [Difference("data", f"day {day}", *keys) for day, *keys in days]
    contents = [{file.sha256: file.path for file in version.list_files()} for version in (first, second)]
    for sha256, *states in _compare(*(dict.fromkeys(files, "read") for files in contents)):
        path = next(files[sha256] for files in contents if sha256 in files)
        differences.append(Difference("data", f"file {path}", *states))
    for subject, of_first, of_second in (
        ("code", first.describe_code(), second.describe_code()),
        ("settings", _describe_settings(first), _describe_settings(second)),
        ("metrics", first.read_metrics(), second.read_metrics()),
    ):
        differences += [Difference(subject, *row) for row in _compare(of_first, of_second)]  # type: ignore[arg-type]
    return differences


def _describe_data(lineage: VersionLineage) -> Json:
    dataset = lineage.find("datasets")
    if dataset is None:
        return {}
    described = {name: dataset.facts.get(name) for name in _SIZES}
    described["forgotten"] = None if dataset.tombstone is None else dataset.tombstone.request
    return {"content": dataset.facts.get("content") or lineage.version.tags.get("dataset_content")} | described


def _describe_settings(lineage: VersionLineage) -> Json:
    providers = {f"scores of {label}": package for label, package in lineage.list_providers().items()}
    return dict(_flatten(lineage.specs or {})) | providers


def _compare(first: Mapping[str, Any], second: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    for name in {**first, **second}:
        if first.get(name) != second.get(name):
            yield name, first.get(name), second.get(name)


def _flatten(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from _flatten(inner, f"{prefix}.{name}" if prefix else str(name))
    else:
        yield prefix, value
