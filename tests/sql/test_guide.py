"""The guide's files, commands and lines of Python, as they stand."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from endcap.cli.main import main
from endcap.runs import list_runs
from endcap.store import open_store
from tests.guides import DOCS

pytestmark = pytest.mark.slow
_FILE = re.compile(r"^(?:--|#) (\S+\.(?:sql|yaml))$")


def test_the_guides_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", (DOCS / "sql-steps.md").read_text(), re.DOTALL | re.MULTILINE)
    for _, text in blocks:
        if named := _FILE.match(text.splitlines()[0]):
            file = tmp_path / named[1]
            file.parent.mkdir(exist_ok=True)
            file.write_text(text)
    assert {"boots.yaml", "shops", "sql"} == {path.name for path in tmp_path.iterdir()}
    commands = [line for kind, text in blocks if not kind for line in text.splitlines()]
    assert [line.split()[:2] for line in commands] == [["endcap", "events"], *[["endcap", "run"]] * 3]
    for line in commands:
        main(shlex.split(line)[1:])
    output = capfd.readouterr().out
    assert [line.split()[1] for line in output.splitlines() if line.startswith("  ✓")] == [
        "clean",
        "ingest",
        "features",
        "bestsellers",
    ] * 3
    runs = list_runs(open_store("store"))[::-1]
    assert [[step.reused for step in run.steps] for run in runs] == [[False] * 4, [True] * 4, [False] * 4]
    first, last = ({step.name: step.result for step in run.steps} for run in (runs[0], runs[2]))
    store = open_store("store")
    rows = [store.manifest(step["clean"])["facts"]["rows"] for step in (first, last)]
    assert 0 < rows[1] < rows[0]
    assert store.manifest(first["ingest"])["facts"]["events"] == rows[0]
    (python,) = [text for kind, text in blocks if kind == "python"]
    names: dict[str, object] = {}
    exec(compile(python, "sql-steps.md", "exec"), names)
    project = names["project"]
    assert len(project.sql("bestsellers").to_pandas()) == 20  # type: ignore[attr-defined]


def test_the_guides_table_of_keys_is_whole() -> None:
    from endcap.spec.sql_step import SqlSpec

    table = (DOCS / "sql-steps.md").read_text().split("## The spec\n")[1].split("- **Place.**")[0]
    keys = {
        key for row in table.splitlines() if row.startswith("| `") for key in re.findall(r"`(\w+)`", row.split("|")[1])
    }
    assert keys - {"pipeline"} == set(SqlSpec.model_fields)
