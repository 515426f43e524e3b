"""Places where several machines put files, in a folder and in a bucket."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from endcap.errors import IntegrityError, NotFoundError
from endcap.store.staging import open_staged_files, stage_files
from tests.refusals import refused
from tests.store.servers import S3Place, moto


@pytest.fixture(params=["folder", "bucket"])
def root(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    if request.param == "folder":
        yield f"file://{tmp_path}/a store"
        return
    with moto() as server:
        yield S3Place(server, tmp_path, monkeypatch).elsewhere().root


def test_files_of_a_place_are_seen_by_its_address_and_end_with_it(root: str, tmp_path: Path) -> None:
    with stage_files(root) as staged:
        there = open_staged_files(staged.address)
        for text in ("first", "last"):
            described = there.write("parts/a b.txt", lambda file, text=text: file.write_text(text))
        there.write("c", lambda file: file.write_bytes(b""))
        assert described == {"bytes": 4, "sha256": hashlib.sha256(b"last").hexdigest()}
        assert staged.fetch("parts/a b.txt", tmp_path).read_text() == "last"
        assert staged.list("") == ["c", "parts/a b.txt"]
        assert staged.list("parts") == ["parts/a b.txt"]
        there.rename("parts/a b.txt", "d/e")
        assert staged.list("") == ["c", "d/e"]
        there.rename("d/e", "parts/a b.txt")
        there.remove(["c", "gone"])
        with refused(NotFoundError, "store.not-found"):
            staged.fetch("c", tmp_path)
        with refused(IntegrityError, "store.name-unsafe"):
            staged.write("../c", lambda file: file.write_text(""))
        with pytest.raises(ZeroDivisionError):
            staged.write("half", lambda file: 1 / 0)
        assert there.list("") == ["parts/a b.txt"]
    with stage_files(root) as staged:
        assert open_staged_files(staged.address).list("") == []
