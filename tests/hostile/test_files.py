"""What a user names is a file with an end: pipes, sockets, devices and texts without measure are refused at once."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from endcap.cluster.kubeconfig import Login
from endcap.errors import DataError, NotFoundError, SpecError, UserError
from endcap.events import ingest
from endcap.rules.read import read_catalogue
from endcap.safe_reading import IrregularFileError, parse_json, read_bytes, read_json
from endcap.spec.environments import resolve
from endcap.spec.load import load, load_documents
from endcap.spec.spec_files import find_spec
from endcap.spec.yaml_tree import DEEPEST, MOST_TEXT, MOST_VALUES, parse_yaml
from endcap.store import Store
from tests.events.shops import ROWS, make_shop, write_csv
from tests.refusals import refused

BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


def pipe(file: Path) -> None:
    os.mkfifo(file)


def listening(file: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        folder = os.open(file.parent, os.O_RDONLY)
        one.bind(f"/proc/self/fd/{folder}/{file.name}")  # a socket's path may be no longer than about 100 bytes
        os.close(folder)


def endless(file: Path) -> None:
    file.symlink_to("/dev/zero")


@contextmanager
def soon() -> Iterator[None]:
    """The block takes about a second of a processor at most, and does not wait."""
    begun, used = time.monotonic(), time.thread_time()  # a test process has threads of other tests' libraries
    yield
    assert time.thread_time() - used < 2, "a busy machine has slower seconds, and what has no end takes many"
    assert time.monotonic() - begun < 20, "a loaded machine makes no more of a second"


@pytest.mark.parametrize("make", [pipe, listening, endless])
@pytest.mark.parametrize("how", ["itself", "in a folder", "by a glob"])
def test_a_source_that_is_no_file_is_refused_at_once(
    make: Callable[[Path], None], how: str, tmp_path: Path, store: Store
) -> None:
    write_csv(tmp_path / "log" / "a.csv", ROWS)
    make(tmp_path / "log" / "b.csv")
    path = {"itself": "b.csv", "in a folder": "", "by a glob": "*.csv"}[how]
    with soon(), refused(DataError, "events.not-a-file"):
        ingest(make_shop(tmp_path / "log" / path), store)


@pytest.mark.skipif(not os.access("/proc/kmsg", os.R_OK), reason="only root may read /proc/kmsg")
def test_neither_does_a_file_of_the_kernels_wait_for_its_bytes(tmp_path: Path, store: Store) -> None:
    (tmp_path / "log.jsonl").symlink_to("/proc/kmsg")
    with soon(), refused(DataError, "events.not-a-file"):
        ingest(make_shop(tmp_path / "log.jsonl"), store)


@pytest.mark.parametrize("table", ["items", "customers", "blacklist"])
def test_so_is_one_of_every_other_table(table: str, tmp_path: Path, store: Store) -> None:
    pipe(tmp_path / "pipe.csv")
    sources: dict[str, Any] = {"sources": [{"path": str(tmp_path / "pipe.csv")}]}
    more = {"rules": {"blacklist": sources}} if table == "blacklist" else {table: sources}
    shop = make_shop(write_csv(tmp_path / "log.csv", ROWS), **more)
    with soon(), refused(DataError, "events.not-a-file"):
        read_catalogue(shop) if table == "blacklist" else ingest(shop, store)


def test_links_to_files_and_folders_named_like_files_are_read(tmp_path: Path, store: Store) -> None:
    write_csv(tmp_path / "elsewhere.csv", ROWS)
    (tmp_path / "log.csv").mkdir()
    (tmp_path / "log.csv" / "a.csv").symlink_to(tmp_path / "elsewhere.csv")
    assert store.manifest(ingest(make_shop(tmp_path / "log.csv"), store))["facts"]["events"] == len(ROWS)


@pytest.mark.parametrize("make", [pipe, listening, endless, Path.mkdir])
def test_a_spec_or_environment_file_that_is_none_is_refused_at_once(
    make: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "spec.yaml"
    make(file)
    with soon(), pytest.raises(SpecError) as caught:
        load(file)
    assert [one.code for one in caught.value.problems] == ["unreadable"]
    monkeypatch.setenv("ENDCAP_ENVIRONMENTS", str(file))
    with soon(), refused(NotFoundError, "spec.no-environments"):
        resolve(None)
    with soon(), refused(UserError, "cluster.kubeconfig-unusable"):
        Login(str(file))


@pytest.mark.parametrize(
    "text",
    [
        BOMB,
        f'name: "{"x" * 50_000_000}"',
        "[" * 200_000,
        "a: " + "{a: " * 5_000,
        "- " * 100_000,
        f"a: [{'x,' * (MOST_TEXT // 2 - 10)}]",
    ],
    ids=["aliases", "scalar", "lists", "maps", "items", "values"],
)
def test_a_spec_without_measure_is_refused_within_a_second(text: str, tmp_path: Path) -> None:
    file = tmp_path / "spec.yaml"
    file.write_text(text)
    with soon(), pytest.raises(SpecError) as caught:
        load(file)
    assert "too-large" in [one.code for one in caught.value.problems]
    assert len(str(caught.value)) < 10_000
    if len(text) < MOST_TEXT:
        with soon(), pytest.raises(SpecError):
            load(Path("pipelines/specs/trial.yaml"), sets=[f"model={text}"])


def test_what_specs_are_made_of_is_far_below_the_limits() -> None:
    deep = "[" * (DEEPEST - 1) + "]" * (DEEPEST - 1)
    wide = ",".join(["*a"] * 90)
    for text in (f"a: {deep}", f"a: &a [{','.join('x' * 100)}]\nb: [{wide}]", f"a: {'x' * (MOST_TEXT - 10)}"):
        assert parse_yaml(text)[1] == []


def test_documents_of_a_notebook_have_the_same_limits() -> None:
    deep: dict[str, Any] = {}
    deep["itself"] = deep
    for document in (deep, {"model": {"x": [0] * (MOST_VALUES + 1)}}):
        with soon(), pytest.raises(SpecError) as caught:
            load_documents(document, {})
        assert "too-large" in [one.code for one in caught.value.problems]


@pytest.mark.parametrize("text", ["[" * 100_000, "[" * 200 + "]" * 200, '{"a":' * 150 + "1" + "}" * 150, "1" * 5_000])
def test_json_without_measure_is_no_json(text: str, tmp_path: Path) -> None:
    with soon(), pytest.raises(ValueError):  # noqa: PT011 (what readers turn into an error of their own)
        parse_json(text)
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError, match="bytes"):
        read_bytes(tmp_path / "a.json", 100)
    pipe(tmp_path / "b.json")
    with soon(), pytest.raises(IrregularFileError):
        read_json(tmp_path / "b.json")


@pytest.mark.parametrize("key", ["shop", "extends"])
def test_a_name_that_no_file_can_have_is_the_name_of_none(key: str, tmp_path: Path) -> None:
    keys: dict[str, Any] = {"apiVersion": "endcap/v2", "kind": "Recommender", "name": "shoes", "shop": "toys"}
    keys |= {"model": {"name": "ease"}, key: "x" * 5000}
    (tmp_path / "shoes.yaml").write_text(json.dumps(keys))
    with pytest.raises(SpecError) as caught:
        load(tmp_path / "shoes.yaml")
    assert key in {problem.key for problem in caught.value.problems}
    with refused(NotFoundError, "spec.not-found"):
        find_spec("x" * 5000)
