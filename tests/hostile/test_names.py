"""Whoever may write to a store chooses its names and links; none of them leads out of where it belongs."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from endcap.errors import IntegrityError, NotFoundError, UserError
from endcap.runs import read_run
from endcap.runs.logs import list_log_files
from endcap.store import CHECKPOINT, Store, open_store
from endcap.store.files import get, put
from endcap.store.safe_paths import find_name_fault, join_safely
from tests.refusals import refused
from tests.store.servers import S3Place, Server, moto

CONTENT = b"planted"
DIGEST = hashlib.sha256(CONTENT).hexdigest()
DESCRIBED = {"bytes": len(CONTENT), "sha256": DIGEST}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with moto() as running:
        yield running


@pytest.fixture
def place(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> S3Place:
    return S3Place(server, tmp_path / "caches", monkeypatch)


def publish(store: Store) -> str:
    with store.publish("things/a", "k") as draft:
        (draft.path / "a.bin").write_bytes(CONTENT)
    return draft.address


def everything(folder: Path) -> set[str]:
    return {str(one.relative_to(folder)) for one in folder.rglob("*")}


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/abs",
        "../x",
        "a/../x",
        "a//b",
        "./a",
        "a/.",
        "a\\b",
        "C:\\x",
        "C:x",
        "a\x00b",
        "a\nb",
        "\ud800",
        7,
        "x" * 300,
    ],
)
def test_what_is_no_relative_path_is_no_name(name: Any, tmp_path: Path) -> None:
    assert find_name_fault(name)
    with refused(IntegrityError, "store.name-unsafe", of="that"):
        join_safely(tmp_path, name, "that")


def test_names_stay_inside_where_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "out").mkdir()
    (tmp_path / "in" / "link").symlink_to(tmp_path / "out")
    (tmp_path / "in" / "near").symlink_to("deep")
    (tmp_path / "in" / "circle").symlink_to("circle")
    assert join_safely(tmp_path / "in", "near/x", "") == tmp_path / "in" / "near" / "x"
    for name in ("link", "link/x", "circle/x"):
        with refused(IntegrityError, "store.leads-out", name=name):
            join_safely(tmp_path / "in", name, "")


@pytest.mark.parametrize(
    "files",
    [
        {"ABSOLUTE": DESCRIBED},
        {"../../../../escaped": DESCRIBED},
        {"a.bin": {**DESCRIBED, "sha256": "../../../../../escaped"}},
        {"a.bin": DESCRIBED, "a.bin/b": DESCRIBED},
        {".parts/x": DESCRIBED},
        {"manifest.json": DESCRIBED},
    ],
    ids=["absolute", "up", "digest", "below-a-file", "own-folder", "own-file"],
)
def test_a_manifest_in_a_bucket_writes_nothing_outside_of_the_cache(
    place: S3Place, tmp_path: Path, files: dict[str, Any]
) -> None:
    address = publish(place.elsewhere())
    escaped = str(tmp_path / "escaped")
    files = {escaped if name == "ABSOLUTE" else name: described for name, described in files.items()}
    manifest = json.loads(place.client.get_object(place.bucket, "stores/one/things/a/k/manifest.json").read())
    place.put("stores/one/things/a/k/manifest.json", json.dumps({**manifest, "files": files}).encode())
    place.put(f"stores/one/things/a/k/{escaped}", CONTENT)
    store, before = place.elsewhere(), everything(tmp_path)
    for _ in range(2):
        with pytest.raises(IntegrityError) as caught:
            store.fetch(address)
        assert caught.value.code in ("store.name-unsafe", "store.wrong-type")
    assert not (tmp_path / "escaped").exists()
    assert {one for one in everything(tmp_path) - before if not one.startswith("caches/")} == set()


def test_an_artifact_of_a_bucket_whose_path_is_absolute_is_none(place: S3Place, tmp_path: Path) -> None:
    store = place.elsewhere()
    publish(store)
    manifest = place.client.get_object(place.bucket, "stores/one/things/a/k/manifest.json").read()
    planted = f"{tmp_path}/escaped"
    place.put(f"stores/one/{planted}/manifest.json", manifest)
    place.put(f"stores/one/{planted}/a.bin", CONTENT)
    with refused(NotFoundError, "store.elsewhere"):
        store.fetch(f"{store.root}/{planted}")
    assert not (tmp_path / "escaped").exists()


def test_checkpoints_are_restored_under_their_own_names_alone(place: S3Place, tmp_path: Path) -> None:
    store, told = place.elsewhere(), []
    names = [f"/{tmp_path}/escaped/{CHECKPOINT}", "other.bin", CHECKPOINT]
    for name in names:
        place.put(f"stores/one/.work/things/a/k/00000001-{'0' * 32}/{name}", CONTENT)
    with store.workspace("things/a", "k", told.append) as folder:
        assert everything(folder) == {CHECKPOINT}
    assert not (tmp_path / "escaped").exists()
    assert sum("is not the name of a checkpoint" in line for line in told) == 2


def test_a_choice_of_another_writer_names_drafts_and_files_of_the_store(place: S3Place) -> None:
    whole = {"address": f"{place.url}/things/a/k", "created": "2026-03-02T06:00:00+00:00", "facts": {}}
    choices = [
        ("store.damaged", {"draft": "../x", "manifest": {**whole, "files": {}}}),
        ("store.name-unsafe", {"draft": "0" * 32, "manifest": {**whole, "files": {"../x": DESCRIBED}}}),
        ("store.damaged", []),
    ]
    for code, choice in choices:
        place.put("stores/one/.drafts/things/a/k/choice.json", json.dumps(choice).encode())
        with refused(IntegrityError, code):
            publish(place.elsewhere())


def test_links_in_a_folders_store_are_followed_within_it_alone(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    folder = store.fetch(publish(store))
    outside = tmp_path / "outside"
    outside.write_bytes(CONTENT)
    (folder / "a.bin").unlink()
    (folder / "a.bin").symlink_to(outside)
    for verify in (False, True):
        with refused(IntegrityError, "store.leads-out", name="a.bin"):
            store.fetch("things/a/k", verify=verify)
    with refused(IntegrityError, "store.leads-out"):
        get(store, f"{store.root}/things/a/k", tmp_path / "copy")
    (folder / "a.bin").unlink()
    (folder / "kept").write_bytes(CONTENT)
    (folder / "a.bin").symlink_to("kept")
    assert (store.fetch("things/a/k", verify=True) / "a.bin").read_bytes() == CONTENT


def test_a_folders_store_reads_no_artifact_or_document_through_a_link(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    folder = store.fetch(publish(store))
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    (tmp_path / "secret.json").write_text('{"password": "x"}')
    (tmp_path / "store" / "runs").mkdir()
    (tmp_path / "store" / "runs" / "r.json").symlink_to(tmp_path / "secret.json")
    for read in (
        lambda: store.find("things/a", "k"),
        lambda: store.manifest(f"{store.root}/things/a/k"),
        lambda: store.list("things/a"),
        lambda: store.read_document("runs/r"),
    ):
        with refused(IntegrityError, "store.leads-out"):
            read()


@pytest.mark.parametrize("name", ["../secret", "/secret", "runs/../../secret"])
def test_documents_workspaces_and_artifacts_have_plain_names_in_both_stores(
    name: str, place: S3Place, tmp_path: Path
) -> None:
    (tmp_path / "secret.json").write_text("{}")
    for store in (open_store(str(tmp_path / "store")), place.elsewhere()):
        for use in (
            lambda store=store: store.read_document(name),
            lambda store=store: store.write_document(name, {"a": 1}),
            lambda store=store: store.update_document(name, lambda before: {"a": 1}),
            lambda store=store: store.list_documents(name),
            lambda store=store: store.find(name, "k"),
            lambda store=store: store.find("things/a", name),
            lambda store=store: store.work_folder("things/a", name),
            lambda store=store: store.publish("things/a", name).__enter__(),
            lambda store=store: store.workspace(name, "k").__enter__(),
        ):
            with refused(IntegrityError, "store.name-unsafe"):
                use()
    assert (tmp_path / "secret.json").read_text() == "{}"


def test_what_a_user_calls_a_run_or_a_step_reads_no_other_file(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    (tmp_path / "x.log").write_text("other")
    (tmp_path / "store" / "runs" / "r").mkdir(parents=True)
    (tmp_path / "store" / "runs" / "r" / "train.log").symlink_to(tmp_path / "x.log")
    for run in ("..", "../..", "/", "a\x00b"):
        with refused(NotFoundError, "run.not-found"):
            read_run(store, run)
    for run, step in (("../..", "x"), ("r", "../../../x"), ("r", "train"), ("r", "")):
        with refused(NotFoundError, "run.no-log"):
            list_log_files(store, run, step)


def test_a_users_files_go_in_and_out_of_a_store_under_their_names_alone(place: S3Place, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    os.mkfifo(source / "pipe")
    for store in (open_store(str(tmp_path / "store")), place.elsewhere()):
        for name in ("../x", "/x", "C:\\x"):
            with refused(UserError, "store.name-invalid"):
                put(store, b"x", name)
        for what in (source, source / "pipe"):
            with refused(UserError, "store.source-invalid"):
                put(store, what, "logs")
    store = open_store(str(tmp_path / "store"))
    put(store, b"x", "logs/a.csv")
    (tmp_path / "store" / "data" / "logs" / "b.csv").symlink_to(tmp_path / "source" / "pipe")
    with refused(UserError, "store.source-invalid"):
        get(store, "logs", tmp_path / "copy")
