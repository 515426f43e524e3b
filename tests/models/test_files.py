"""A model's arrays are the pages of its file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from endcap.errors import IntegrityError
from endcap.models import files
from tests.refusals import refused

ARRAYS = {
    "flags": np.array([True, False, True]),
    "codes": np.array([[1, -2, 3]], dtype=np.int16),
    "items": np.arange(6, dtype=np.int32).reshape(2, 3),
    "nothing": np.zeros((0, 4), dtype=np.float32),
    "starts": np.array([0, 2**40]),
    "weights": np.linspace(-1, 1, 10, dtype=np.float32).reshape(5, 2),
    "bytes": np.arange(7, dtype=np.uint8),
    "wide": np.array(0.1),
}


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    files.write(tmp_path, {}, ARRAYS)
    read = files.tensors(tmp_path)
    assert read.keys() == ARRAYS.keys()
    for name, values in ARRAYS.items():
        assert read[name].dtype == values.dtype
        np.testing.assert_array_equal(read[name], values)
    assert {file.name for file in tmp_path.iterdir()} == {files.DESCRIPTION, files.TENSORS}


@pytest.mark.parametrize("mapped", [0, files._MAPPED_BYTES], ids=["mapped", "copied"])
def test_neither_a_change_of_an_array_nor_another_writing_is_seen_by_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mapped: int
) -> None:
    monkeypatch.setattr(files, "_MAPPED_BYTES", mapped)
    files.write(tmp_path, {}, ARRAYS)
    mine, theirs = files.tensors(tmp_path), files.tensors(tmp_path)
    mine["weights"][:] = 7
    np.testing.assert_array_equal(theirs["weights"], ARRAYS["weights"])
    files.write(tmp_path, {}, {"weights": np.zeros(3, dtype=np.float32)})
    np.testing.assert_array_equal(theirs["weights"], ARRAYS["weights"])
    assert files.tensors(tmp_path)["weights"].tolist() == [0, 0, 0]


def test_large_arrays_are_the_pages_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_MAPPED_BYTES", 20)
    files.write(tmp_path, {}, ARRAYS)
    for name, values in files.tensors(tmp_path).items():
        assert values.flags.owndata == (ARRAYS[name].nbytes < 20), name


@pytest.mark.parametrize("kept", [0, 7, 100, -1])
def test_a_file_that_is_cut_off_is_refused(tmp_path: Path, kept: int) -> None:
    files.write(tmp_path, {}, ARRAYS)
    file = tmp_path / files.TENSORS
    file.write_bytes(file.read_bytes()[:kept])
    with refused(IntegrityError, "models.damaged", path=str(file)):
        files.tensors(tmp_path)
    file.unlink()
    with refused(IntegrityError, "models.damaged", path=str(file)):
        files.tensors(tmp_path)
