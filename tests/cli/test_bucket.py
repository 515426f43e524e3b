"""Commands on a store in a bucket."""

from __future__ import annotations

from pathlib import Path

import pytest

from endcap.cli.main import main
from endcap.registry import get_default_uri
from endcap.runs.logs import find_logs_folder
from endcap.store import open_store
from tests.store.servers import S3Place, moto


def test_a_run_says_at_once_that_a_bucket_holds_no_registry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with moto() as server:
        place = S3Place(server, tmp_path, monkeypatch)
        monkeypatch.setenv("ENDCAP_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("ENDCAP_DEMO", str(tmp_path))
        monkeypatch.delenv("ENDCAP_REGISTRY", raising=False)
        with pytest.raises(SystemExit, match="2"):
            main(["run", "demo", "--store", place.url])
    assert "has no registry of its own" in capsys.readouterr().err


def test_logs_of_runs_lie_on_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = open_store(str(tmp_path / "store"))
    assert find_logs_folder(folder) == tmp_path / "store" / "runs"
    assert get_default_uri(folder) == f"sqlite:///{tmp_path}/store/mlflow.db"
    monkeypatch.chdir(tmp_path)
    with moto() as server:
        assert find_logs_folder(S3Place(server, tmp_path, monkeypatch).elsewhere()) == tmp_path / ".endcap" / "runs"
