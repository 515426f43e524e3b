"""Reports of real verdicts, in the store and in MLflow."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from endcap.evaluation import judge
from endcap.registry import Registry, get_default_uri
from endcap.report import REPORT_FILE, find_report, gather_facts, publish_report
from endcap.store import FolderStore, Store
from tests.evaluation.test_judge import log, spec, train


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, str]:
    store = FolderStore(tmp_path_factory.mktemp("store"))
    data = log(store)
    return store, judge(spec(), data, train(spec(), data, store), store)


def test_a_report_is_made_once_and_lies_in_the_verdicts_mlflow_run(judged: tuple[Store, str], tmp_path: Path) -> None:
    store, verdict = judged
    assert find_report("test", verdict, store) is None
    address = publish_report("test", verdict, store)
    assert publish_report("test", verdict, store) == find_report("test", verdict, store) == address
    text = (store.fetch(address) / REPORT_FILE).read_text()
    assert "All 2 conditions of the gate hold." in text
    run = store.manifest(verdict)["facts"]["mlflow_run"]
    copy = Registry(get_default_uri(store)).client.download_artifacts(run, REPORT_FILE, str(tmp_path))
    assert Path(copy).read_text() == text


def test_samples_are_sessions_of_the_test_beside_the_best_baseline(judged: tuple[Store, str]) -> None:
    """On the circle the model is right on every session, and popularity, which knows no order, on some."""
    store, verdict = judged
    samples = gather_facts("test", verdict, store).samples
    assert samples is not None
    assert samples["models"][0] == "challenger"
    assert {one["kind"] for one in samples["sessions"]} <= {"both", "challenger"}
    for one in samples["sessions"]:
        following = "abcdef"[("abcdef".index(one["shown"][-1]["item"]) + 1) % 6]
        assert one["next"]["item"] == following
        assert one["lists"]["challenger"][0]["item"] == following
        assert one["ranks"]["challenger"] == 1
        assert len(one["shown"]) + 1 + one["earlier"] == 5


def test_a_registry_that_takes_no_file_is_a_warning(judged: tuple[Store, str]) -> None:
    store, verdict = judged
    artifacts = Path(get_default_uri(store).removeprefix("sqlite:///")).with_name("mlflow-artifacts")
    shutil.rmtree(artifacts, ignore_errors=True)
    artifacts.write_text("a file where the folder should be")
    said: list[str] = []
    address = publish_report("another", verdict, store, progress=said.append)
    assert (store.fetch(address) / REPORT_FILE).is_file()
    (warning,) = said
    assert warning.startswith("warning: the report is not in MLflow, only in the store: ")
