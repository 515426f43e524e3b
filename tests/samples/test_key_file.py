"""The key that a laptop makes for itself."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from endcap.pseudonyms import KEY
from endcap.samples.key_file import find_key, open_pseudonymiser
from endcap.store import open_store


def test_a_key_is_made_once_for_its_user_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY, raising=False)
    store = open_store(str(tmp_path))
    assert find_key(store) == ""
    assert open_pseudonymiser(store) is None
    with ThreadPoolExecutor(4) as threads:
        keys = set(threads.map(lambda _: find_key(store, create=True), range(8)))
    (key,) = keys
    assert len(key) == 64
    (file,) = store.work_folder("samples", "key").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert open_pseudonymiser(store) is not None


def test_the_key_of_the_environment_comes_first_and_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY, "k" * 20)
    store = open_store(str(tmp_path))
    assert find_key(store, create=True) == "k" * 20
    assert not list(store.work_folder("samples", "key").iterdir())
