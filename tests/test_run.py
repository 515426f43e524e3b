"""What `make test` does with tests that fail."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

FILE = """
from pathlib import Path
import pytest

@pytest.mark.parametrize("number", range({failing}))
def test_that_fails(number):
    assert False

def test_that_passes_the_second_time():
    state = Path(__file__).with_name("state")
    second = state.exists()
    state.touch()
    assert second

def test_that_passes():
    with Path(__file__).with_name("passes").open("a") as file:
        file.write(".")
"""


@pytest.mark.slow
@pytest.mark.parametrize(("failing", "status", "second"), [(0, 0, True), (1, 1, True), (3, 1, False)])
def test_few_failures_run_once_more_and_must_pass(tmp_path: Path, failing: int, status: int, second: bool) -> None:
    (tmp_path / "test_few.py").write_text(FILE.format(failing=failing))
    words = [sys.executable, "-m", "tests.run", "--rootdir", str(tmp_path), "-c", "/dev/null"]
    done = subprocess.run([*words, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stdout
    assert ("once more" in done.stdout) == second
    assert (tmp_path / "passes").read_text() == "."
    if not failing:
        assert done.stdout.splitlines()[-1].endswith("test_few.py::test_that_passes_the_second_time")
