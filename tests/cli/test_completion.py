"""What a shell is offered, and what is proposed for a word that is misspelt."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from endcap.cli.main import endcap, main
from endcap.registry import Registry, get_default_uri
from endcap.runs import Start, begin_run
from endcap.runs.logs import find_logs_folder
from endcap.store import Store, open_store
from tests.cli.printed_errors import find_code

HEAVY = """
import os, sys
from endcap.cli.main import main
os.environ |= {"_ENDCAP_COMPLETE": "bash_complete", "COMP_WORDS": "endcap run tr", "COMP_CWORD": "2"}
try:
    main([])
except SystemExit:
    pass
heavy = {"torch", "kserve", "mlflow", "kfp", "pandas", "duckdb", "pyarrow"} & set(sys.modules)
sys.exit(f"imported {heavy}" if heavy else 0)
"""


def offered(words: str, begun: str = "") -> list[str]:
    complete = ShellComplete(endcap, {}, "endcap", "_ENDCAP_COMPLETE")
    return [item.value for item in complete.get_completions(words.split(), begun)]


@pytest.fixture
def lived_in(tmp_path: Path, empty_registry: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A folder with a store: two versions of toys, and a run."""
    monkeypatch.chdir(tmp_path)
    store = open_store(".endcap/store")
    shutil.copy(empty_registry, get_default_uri(store).removeprefix("sqlite:///"))
    registry = Registry(get_default_uri(store))
    for number in (1, 2):
        with store.publish("packages/toys", f"p{number}") as draft:
            draft.path.joinpath("x").touch()
        registry.add_version("toys", f"packages/toys/p{number}", "approved", "", {})
    begin_run(store, "toys-7", Start(recommender="toys"))
    logs = find_logs_folder(store) / "toys-7"
    logs.mkdir()
    (logs / "train.log").touch()
    return store


@pytest.mark.usefixtures("lived_in")
def test_names_are_completed() -> None:
    assert offered("run", "tr") == ["trial"]
    assert offered("deploy", "t") == ["toys"]
    assert offered("deploy toys --version") == ["2", "1"]
    assert offered("registry approve toys") == ["2", "1"]
    assert offered("runs show", "to") == ["toys-7"]
    assert offered("runs logs toys-7") == ["train"]
    assert offered("runs", "sh") == ["show"]
    Path("toys.yaml").touch()
    (Path("toys") / "overlays").mkdir(parents=True)
    Path("toys/overlays/nightly.yaml").touch()
    assert offered("run toys.yaml --env") == ["nightly"]


def test_where_no_store_is_nothing_is_offered_and_none_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert offered("deploy") == offered("registry approve toys") == offered("runs show") == []
    assert list(tmp_path.iterdir()) == []


def test_no_heavy_library_is_imported_for_it(tmp_path: Path) -> None:
    shown = subprocess.run([sys.executable, "-c", HEAVY], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (shown.returncode, shown.stdout.split()) == (0, ["plain,trial"]), shown.stderr


@pytest.mark.parametrize(
    ("call", "near"),
    [
        ("rnu demo", "'run'"),
        ("registry lst", "'list'"),
        ("runs shw toys-7", "'show'"),
        ("run demo --jsn", "--json"),
        ("run dmeo", "'demo'"),
        ("spec check toyz.yaml", "'toys.yaml'"),
        ("run demo --set model.widht=3", "'width'"),
    ],
)
def test_the_nearest_word_is_proposed(
    call: str, near: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("toys.yaml").touch()
    with pytest.raises(SystemExit) as ended:
        main(call.split())
    assert ended.value.code == 2
    assert near in capsys.readouterr().err


def test_a_misspelt_recommender_is_answered_with_those_that_are_known(
    lived_in: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["registry", "list", "toyz"])
    assert "'toys'" in capsys.readouterr().out
    lived_in.write_document("deployments/toys", {"recommender": "toys"})
    with pytest.raises(SystemExit):
        main(["deploy", "toyz"])
    said = capsys.readouterr().err
    assert (find_code(said), "'toys'" in said) == ("deploy.not-deployed", True)
