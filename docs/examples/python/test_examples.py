"""Every numbered example runs, each in a folder of its own, over one store."""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SCRIPTS = sorted(HERE.glob("[0-9][0-9]_*.py"))
NOTEBOOKS = sorted(HERE.glob("[0-9][0-9]_*.ipynb"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("examples")


@pytest.fixture(autouse=True)
def store(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One store for all: what an earlier example made is not made again."""
    monkeypatch.setenv("ENDCAP_STORE", str(folder / "store"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))


def test_there_are_eight_and_two_are_notebooks() -> None:
    numbers = sorted(int(path.name[:2]) for path in [*SCRIPTS, *NOTEBOOKS])
    assert numbers == list(range(1, 9))
    assert len(NOTEBOOKS) == 2


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_runs(
    script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(script), run_name="__main__")
    assert capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_from_top_to_bottom(notebook: Path, tmp_path: Path) -> None:
    import nbformat
    from nbclient import NotebookClient

    document = nbformat.read(notebook, as_version=4)
    assert all(not cell.get("outputs") for cell in document.cells), "clear the outputs: they show one machine's paths"
    NotebookClient(document, timeout=240, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert any("text/html" in output.get("data", {}) for cell in document.cells for output in cell.get("outputs", []))
