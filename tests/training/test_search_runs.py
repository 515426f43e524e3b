"""What a search leaves in MLflow and in its record when it is tried again, without Ray."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from endcap.ray_driver.failures import describe_loss
from endcap.registry.factory import get_default_uri
from endcap.registry.versions import Registry
from endcap.spec import Recommender
from endcap.store import Store
from endcap.training.search.mlflow_runs import SearchRuns
from endcap.training.search.record import SearchRecord, Trial
from tests.conftest import ROOT
from tests.features.logs import recommender
from tests.training.datasets import SPLIT


@pytest.fixture
def spec() -> Recommender:
    return recommender(model={"name": "vsknn"}, split=SPLIT, search={"trials": 3})


@pytest.mark.slow
def test_each_search_has_runs_of_its_own_that_tell_its_last_attempt(
    store: Store, spec: Recommender, tmp_path: Path
) -> None:
    rows = [{"epoch": 1, "validation": 0.2, "hr@10": 0.3, "loss %": 1.0}]
    good = Trial(1, {"last": 3}, "complete", 0.2, rows)
    record = SearchRecord(tmp_path / "one", "key", [""])
    record.parts[""].trials = {1: good, 2: Trial(2, {"last": 4}, "failed", error="no memory")}

    def begun(of: SearchRecord) -> SearchRuns:
        runs = SearchRuns(spec, store, None, of.identity, "file:///dataset", lambda line: None)
        runs.begin()
        for trial in of.parts[""].ended:
            runs.write_trial("", trial)
        return runs

    def states() -> list[tuple[str, str, str]]:
        client = Registry(get_default_uri(store)).client
        experiment = client.get_experiment_by_name("test").experiment_id
        found = [(run.data.tags, run.info.status) for run in client.search_runs([experiment])]
        return sorted((tags["part"], tags.get("trial", ""), status) for tags, status in found)

    refused = begun(record)
    refused._writer.finish()
    refused.abandon("FAILED")
    assert states() == [("search", "", "FAILED"), ("trial", "1", "FINISHED"), ("trial", "2", "FAILED")]
    record.put_back_failures()
    record = SearchRecord(tmp_path / "one", "key", [""])
    record.parts[""].trials[2].state, record.parts[""].trials[2].value = "complete", 0.1
    first = begun(record).end(record)
    assert states() == [("search", "", "FINISHED"), ("trial", "1", "FINISHED"), ("trial", "2", "FINISHED")]
    run = Registry(get_default_uri(store)).client.get_run(first)
    assert (run.data.metrics["best"], run.data.metrics["as_written"]) == (0.2, 0.2)
    anew = SearchRecord(tmp_path / "two", "key", [""])
    anew.parts[""].trials = {1: Trial(1, {"last": 3}, "complete", 0.5)}
    second = begun(anew).end(anew)
    assert second != first
    assert Registry(get_default_uri(store)).client.get_run(second).data.metrics["best"] == 0.5
    assert len(states()) == 5


def test_what_failed_is_tried_again_under_its_number_with_its_share_of_the_time(tmp_path: Path) -> None:
    record = SearchRecord(tmp_path, "key", [""])
    record._before = 100.0
    part = record.parts[""]
    part.trials = {
        1: Trial(1, {"x": 1}, "complete", 0.4),
        2: Trial(2, {"x": 2}, "failed", history=[{"epoch": 1}], error="no memory"),
        3: Trial(3, {"x": 3}, "failed", error="no memory"),
        4: Trial(4, {"x": 4}, "cut"),
    }
    part.over = True
    record.put_back_failures()
    again = SearchRecord(tmp_path, "key", [""])
    assert again.seconds == pytest.approx(50, abs=5)
    assert not again.parts[""].over
    assert [(one.number, one.attempt, one.history) for one in again.parts[""].of("running")] == [(2, 2, []), (3, 2, [])]
    # Without time to try them they are what they were: the search is refused again.
    again.parts[""].end()
    assert [one.error for one in again.parts[""].of("failed")] == ["no memory", "no memory"]
    assert [one.number for one in again.parts[""].of("cut")] == [4]


def test_a_trial_that_gets_further_leaves_its_earlier_failure_behind() -> None:
    trial = Trial(1, {}, "failed", error="no memory")
    trial.put_back()
    trial.add({"epoch": 1, "validation": 0.2})
    trial.stop("cut")
    assert (trial.state, trial.error, trial.value) == ("cut", None, 0.2)


def test_a_trial_without_a_share_of_a_gpu_sees_none(monkeypatch: pytest.MonkeyPatch) -> None:
    from endcap.ray_driver.gpus import hide_gpus_unless

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    hide_gpus_unless(0.5)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1"
    hide_gpus_unless(0)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""


def test_a_worker_imports_neither_the_table_engine_nor_pandas() -> None:
    """Each worker of a search and of a fit is a process of its own, which would import them for nothing."""
    imports = "import sys, endcap.training.search.trial; print(*{'ibis', 'pandas'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", imports], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []


def test_no_process_of_ray_builds_parsers_of_iris() -> None:
    """Each imports jsonschema, which builds them where this package is installed: most of the cost of Ray's start."""
    assert importlib.util.find_spec("rfc3987_syntax") is None
    lock = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    assert re.findall(r"^rfc3987-syntax==\S+ ; sys_platform == '(.*)'", lock, re.MULTILINE) == ["never"]


CHILD = """
import subprocess, time
from endcap.ray_driver.child import read_lines
for line in read_lines():
    print(subprocess.Popen(["sleep", line.strip()]).pid, flush=True)
    time.sleep(float(line))
print("in order", flush=True)
"""


@pytest.mark.parametrize(("line", "status", "last"), [("60", -signal.SIGKILL, ""), ("0", 0, "in order\n")])
def test_ray_s_process_ends_with_its_input_in_the_midst_of_a_job_too(line: str, status: int, last: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{line}\n")
        process.stdin.flush()
        assert process.stdout.readline()
        process.stdin.close()
        # The child holds the output as well: it ends when both are gone.
        assert process.stdout.read() == last
        assert process.wait(60) == status


def test_a_death_is_told_as_one_of_memory_only_where_ray_s_watch_over_it_says_so() -> None:
    from ray.exceptions import ActorDiedError, OutOfMemoryError

    died = ActorDiedError()
    died.error_msg = "The actor died. (1) killed by the OOM killer due to high memory usage, (2) killed by SIGKILL"
    assert describe_loss(died) == "its process died"
    assert describe_loss(OutOfMemoryError("2 workers were killed")).startswith("out of memory")
    assert describe_loss("a first line\nTask was killed due to the node running low on memory\n").startswith(
        "out of memory"
    )
    assert describe_loss("Traceback\n  in f\nValueError: no\n") == "ValueError: no"
    assert describe_loss(None) == "its process died"
