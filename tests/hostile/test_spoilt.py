"""Whatever stands in a package, a manifest or a document in place of what Endcap wrote: an error with a code at most.

HOSTILE_TRIES gives the number of tries, HOSTILE_SEED their seed; `tests.hostile.packages` and `tests.hostile.stores`
run them at any length.
"""

from __future__ import annotations

import json
import os
import random
import time
from pathlib import Path

import pytest

from endcap.errors import EndcapError, IntegrityError
from endcap.redaction import redact
from endcap.registry.package import load_package
from endcap.store import open_store
from tests.hostile import packages, stores
from tests.hostile.mutations import WRONG, places
from tests.refusals import refused

TRIES, SEED = int(os.environ.get("HOSTILE_TRIES", "0")), int(os.environ.get("HOSTILE_SEED", "20261129"))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return packages.write_packages(tmp_path_factory.mktemp("packages"))


def test_a_spoilt_package_is_refused_or_answers(written: list[Path], tmp_path: Path) -> None:
    assert {packages.met(package) for package in written} == {""}
    codes = packages.attack(written, tmp_path, TRIES or 80, SEED)
    assert {"registry.package-damaged", "models.damaged"} <= codes.keys()


@pytest.mark.parametrize("name", ["info.json", "features.json", "model/model.json"])
def test_each_value_of_a_small_file_may_be_of_any_type(name: str, written: list[Path], tmp_path: Path) -> None:
    package = next(one for one in written if one.name == "sequential-rules")
    whole = (package / name).read_text()
    try:
        for at in places(json.loads(whole)):
            document = json.loads(whole)
            wrong = random.Random(f"{SEED}/{name}/{at}").choice(WRONG)
            parent = document
            for key in at[:-1]:
                parent = parent[key]
            if at:
                parent[at[-1]] = wrong
            (package / name).write_text(json.dumps(document if at else wrong))
            packages.met(package)
    finally:
        (package / name).write_text(whole)
    assert packages.met(package) == ""


def test_a_header_that_claims_more_than_there_is_takes_no_memory(written: list[Path]) -> None:
    package = next(one for one in written if one.name == "popularity")
    file = package / "model" / "tensors.safetensors"
    whole = file.read_bytes()
    claimed = json.dumps({"counts": {"dtype": "F32", "shape": [10**13 // 4], "data_offsets": [0, 10**13]}}).encode()
    try:
        for size in (len(claimed), 10**13):
            file.write_bytes(size.to_bytes(8, "little") + claimed)
            with refused(IntegrityError, "models.damaged"):
                load_package(package)
    finally:
        file.write_bytes(whole)


def test_a_spoilt_document_is_refused_or_read(tmp_path: Path) -> None:
    whole = stores.write_store(tmp_path / "whole")
    store = open_store(str(whole))
    for reader in stores.readers(store, whole=False):
        reader()
    codes = stores.attack(whole, tmp_path / "work", TRIES or 40, SEED, thorough=bool(TRIES))
    assert {"store.wrong-type"} <= codes.keys()


def test_facts_that_are_missing_are_named(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    with store.publish("verdicts/a", "k") as draft:
        draft.facts["model"] = {"name": "x", "inner": [{}]}
    facts = store.manifest(draft.address)["facts"]
    assert (facts.get("dataset"), dict(facts["model"])["name"]) == (None, "x")
    for missing in (lambda: facts["dataset"], lambda: facts["model"]["inner"][0]["deep"]):
        with refused(IntegrityError, "store.key-missing", where=draft.address):
            missing()
    assert json.loads(json.dumps(facts)) == {"model": {"name": "x", "inner": [{}]}}


@pytest.mark.parametrize("text", ["x", "http://x", "://", "a@", "?a", "-eyJaaaaaaaa", "Bearer "])
def test_a_long_text_in_an_error_costs_no_time(text: str) -> None:
    long = (text * 100_000)[:20_000]
    begun = time.thread_time()
    assert redact(f"{long} http://me:pw@host/x") == f"{redact(long)} http://…@host/x"
    EndcapError(long, code="x.y", found=long)
    assert time.thread_time() - begun < 3
