"""Versions of documents."""

from __future__ import annotations

from pathlib import Path

import pytest

from endcap.errors import IntegrityError, UserError
from endcap.steps import STEPS
from endcap.store import documents, get_release, open_document, stamp_document
from endcap.store.documents import KINDS, DocumentKind, Json
from tests.refusals import refused

GUIDE = Path(__file__).parents[2] / "docs" / "storage.md"


def rename(before: Json) -> Json:
    return {"part": before["share"]}


def percent(before: Json) -> Json:
    return {"percent": 100 * before["part"]}


def test_a_document_comes_back_without_its_stamp() -> None:
    written = stamp_document("runs", {"state": "done"})
    assert written == {"format": 1, "written_by": get_release(), "state": "done"}
    assert open_document("runs", written, "runs/r") == {"state": "done"}


def test_one_without_a_version_has_the_first() -> None:
    assert open_document("runs", {"state": "done"}, "runs/r") == {"state": "done"}


def test_an_older_one_is_brought_up_step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(documents.KINDS, "deployments", DocumentKind(3, {1: rename, 2: percent}))
    assert open_document("deployments", {"share": 0.25}, "d") == {"percent": 25}
    assert open_document("deployments", {"format": 2, "part": 0.5}, "d") == {"percent": 50}
    assert stamp_document("deployments", {"percent": 50})["format"] == 3


@pytest.mark.parametrize(
    ("version", "code"), [(1, "store.older-format"), (4, "store.newer-format"), ("3.1", "store.newer-format")]
)
def test_a_document_of_an_unknown_version_is_refused(
    monkeypatch: pytest.MonkeyPatch, version: object, code: str
) -> None:
    monkeypatch.setitem(documents.KINDS, "deployments", DocumentKind(3, {2: percent}))
    expected = {"kind": "deployments", "found": version, "known": 3, "written_by": "0.5", "where": "d"}
    with refused(UserError, code, **expected):
        open_document("deployments", {"format": version, "share": 0.25}, "d", written_by="0.5")


def test_a_value_that_is_not_a_mapping_is_not_a_document() -> None:
    with refused(IntegrityError, "store.no-document", kind="runs", where="runs/r"):
        open_document("runs", [], "runs/r")  # type: ignore[arg-type]


def test_every_kind_of_artifact_that_a_step_makes_has_a_version() -> None:
    assert {step.kind for step in STEPS.values() if step.kind} <= KINDS.keys()


def test_the_guide_lists_every_kind_with_its_version() -> None:
    rows = [[cell.strip(" `") for cell in line.split("|")] for line in GUIDE.read_text().splitlines()]
    listed = {row[1]: row[2] for row in rows if len(row) == 6}
    assert {kind: str(known.version) for kind, known in KINDS.items()}.items() <= listed.items()
