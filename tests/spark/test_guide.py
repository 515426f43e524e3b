"""The guide's files, commands and lines of Python, as they stand."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from endcap.cli.main import main
from endcap.spec.spark import SparkSpec
from tests.guides import DOCS
from tests.spark.clusters import needs_java, write_quick_environment

GUIDE = (DOCS / "spark.md").read_text()
_FILE = re.compile(r"^# (\S+\.yaml)$")


@needs_java
@pytest.mark.slow(minutes=1)
def test_the_guides_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in write_quick_environment(tmp_path / "quick").items():
        monkeypatch.setenv(name, value)
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", GUIDE, re.DOTALL | re.MULTILINE)
    for _, text in blocks:
        if named := _FILE.match(text.splitlines()[0]):
            file = tmp_path / named[1]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
    commands = [line for kind, text in blocks if not kind for line in text.splitlines()]
    assert len(commands) == 3
    for line in commands:
        main(shlex.split(line)[1:])
    (python,) = [text for kind, text in blocks if kind == "python"]
    names: dict[str, object] = {}
    exec(compile(python, "spark.md", "exec"), names)
    (digest,) = names["digests"]  # type: ignore[misc]
    assert len(digest) == 32


def test_the_guides_table_of_keys_is_whole() -> None:
    table = GUIDE.split("## Where Spark runs\n")[1].split("\n- ")[0]
    rows = [row for row in table.splitlines() if row.startswith("| `")]
    assert {key for row in rows for key in re.findall(r"`(\w+)`", row.split("|")[1])} == set(SparkSpec.model_fields)
