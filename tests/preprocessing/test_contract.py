"""The suite of preprocessors passes whole ones, and sees what is wrong with broken ones."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from endcap.spec.preprocessing import PreprocessorSpec
from endcap.testing import PreprocessorContract
from tests.preprocessing.stand_ins import ROOM, step

WHOLE = [
    step("DropGlances", ms=1200),
    step("DropType"),
    step("LastOfRegulars"),
    step("ToCheapest"),
    step("SlowBefore", seconds=1.0),
]


class TestWholeSteps(PreprocessorContract):
    @pytest.fixture(scope="class", params=WHOLE, ids=lambda one: str(one["class"]).partition(":")[2])
    def spec(self, request: pytest.FixtureRequest) -> PreprocessorSpec:
        return PreprocessorSpec.model_validate(request.param)


BROKEN = {
    "batch": "test_a_batch_and_single_requests_agree",
    "writes": "test_it_does_not_write_into_what_it_is_given",
    "pickle": "test_saved_and_loaded_it_does_the_same_without_pickle",
}


@pytest.mark.slow
def test_broken_steps_fail_the_suite(tmp_path: Path) -> None:
    lines = ["from endcap.testing import PreprocessorContract"]
    for how in BROKEN:
        document = {"class": f"{ROOM}:Broken", "parameters": {"how": how}}
        lines += [f"class Test{how.title()}(PreprocessorContract):", f"    document = {document!r}"]
    (tmp_path / "test_it.py").write_text("\n".join(lines))
    tests = {f"Test{how.title()}::{test}" for how, test in BROKEN.items()}
    command = [sys.executable, "-m", "pytest", "-q", "-rf", "-p", "no:xdist", "-p", "no:cacheprovider"]
    command += [f"{tmp_path / 'test_it.py'}::{test}" for test in tests]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    failed = {line.split(" ")[1].partition("::")[2] for line in ran.stdout.splitlines() if line.startswith("FAILED")}
    assert failed == tests, ran.stdout
