"""endcap run --on kfp, against a server that speaks KFP's API."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from endcap.cli import run_kfp
from endcap.cli.main import main
from endcap.runs import Start
from endcap.store import Store, open_store
from tests.cli.printed_errors import find_code
from tests.kfp.server import Kfp, scene

ROOT = Path(__file__).parents[2]
SPEC = str(ROOT / "pipelines" / "specs" / "trial.yaml")
EARLY = ["ingest", "features", "train", "evaluate"]
ALL = [*EARLY, "refit", "register", "deploy"]
GOOD = scene("SUCCEEDED", dict.fromkeys([*ALL, "report"], "SUCCEEDED"))
BAD_TRAIN = scene(
    "FAILED",
    {"ingest": "SUCCEEDED", "features": "SUCCEEDED", "train": "FAILED", "report": "SUCCEEDED"},
    {"train": "OOMKilled (exit code 137)"},
)


def run(kfp: Kfp, *arguments: str) -> None:
    main(["run", SPEC, "--on", "kfp", "--kfp-host", kfp.url, *arguments])


def run_to_failure(kfp: Kfp, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, what was printed, and what was said of the failure."""
    with pytest.raises(SystemExit) as stopped:
        run(kfp, *arguments)
    output = capsys.readouterr()
    return int(stopped.value.code or 0), output.out, output.err


def test_a_run_is_followed_step_by_step_to_its_end(kfp: Kfp, capsys: pytest.CaptureFixture[str]) -> None:
    kfp.scenes = [
        scene("RUNNING", {"ingest": "RUNNING"}),
        scene("RUNNING", {"ingest": "SUCCEEDED", "features": "RUNNING"}),
        GOOD,
    ]
    run(kfp, "--registry", "http://mlflow.ml:5000", "--logical-date", "2026-03-10", "--set", "seed=3")
    output = capsys.readouterr().out
    assert [line.split()[1] for line in output.splitlines() if line.startswith("  ✓")] == ALL
    assert "  ✓ ingest      42.0 s" in output
    assert f"{kfp.url}/#/runs/details/{kfp.runs[0]['run_id']}" in output
    parameters = kfp.runs[0]["runtime_config"]["parameters"]
    assert (parameters["store"], parameters["registry"]) == ("s3://endcap/store", "http://mlflow.ml:5000")
    assert (parameters["namespace"], parameters["logical_date"]) == ("endcap-serving", "2026-03-10")
    assert parameters["recommender"]["seed"] == 3
    assert [one["display_name"] for one in kfp.experiments] == ["trial"]


def test_who_starts_a_run_and_why_travels_with_it(kfp: Kfp) -> None:
    kfp.scenes = [GOOD]
    run(kfp, "--why", "after the sale", "--logical-date", "2026-03-10")
    start = Start.from_text(kfp.runs[0]["runtime_config"]["parameters"]["trigger"])
    assert (start.how, start.why, start.pipeline) == ("command line", "after the sale", "training")
    assert (start.recommender, start.shop, start.logical_date) == ("trial", "trial", "2026-03-10")
    assert start.by
    assert f"{start.page}{kfp.runs[0]['run_id']}" == f"{kfp.url}/#/runs/details/{kfp.runs[0]['run_id']}"


def test_the_same_content_is_one_version_and_another_a_second_of_the_same_pipeline(kfp: Kfp) -> None:
    kfp.scenes = [GOOD]
    run(kfp)
    run(kfp)
    assert (len(kfp.pipelines), len(kfp.versions), len(kfp.runs), len(kfp.experiments)) == (1, 1, 2, 1)
    run(kfp, "--set", "pipeline.steps.train.gpu={count: 1}")
    assert (len(kfp.pipelines), len(kfp.versions)) == (1, 2)
    assert kfp.runs[2]["pipeline_version_reference"]["pipeline_version_id"] == kfp.versions[1]["pipeline_version_id"]


def test_a_gate_that_did_not_pass_is_no_failure(kfp: Kfp, capsys: pytest.CaptureFixture[str]) -> None:
    kfp.scenes = [scene("SUCCEEDED", dict.fromkeys([*EARLY, "report"], "SUCCEEDED"))]
    run(kfp)
    assert "deploy              not run: the gate did not pass" in capsys.readouterr().out


def test_a_failed_step_is_named_with_its_cause_and_where_to_look(kfp: Kfp, capsys: pytest.CaptureFixture[str]) -> None:
    kfp.scenes = [BAD_TRAIN]
    code, output, errors = run_to_failure(kfp, capsys)
    assert code == 1
    assert "train" in output.splitlines()[-1]
    assert find_code(errors) == "kfp.step-failed"
    assert "OOMKilled (exit code 137) (pod train-pod-id)" in errors
    assert f"page:  {kfp.url}/#/runs/details/{kfp.runs[0]['run_id']}" in errors
    assert "again: endcap" in errors


@pytest.fixture
def near_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The run's store, within reach of whoever follows it."""
    store = open_store(str(tmp_path / "store"))
    monkeypatch.setattr(run_kfp, "open_store", lambda url: store)
    return store


def test_what_a_step_said_in_the_store_is_shown(
    kfp: Kfp, capsys: pytest.CaptureFixture[str], near_store: Store
) -> None:
    def with_words(run: str) -> dict[str, object]:
        record = {"state": "done", "result": "s3://endcap/store/snapshots/trial/x", "summary": "7 events", "begun": ""}
        near_store.write_document(f"runs/{run}/ingest", record)
        error = {"code": "features.no-session", "message": "no session is left", "fields": {}}
        failed = {"state": "failed", "cause": error["message"], "error": error, "begun": ""}
        near_store.write_document(f"runs/{run}/train", failed)
        return BAD_TRAIN(run)

    kfp.scenes = [with_words]
    _, output, record = run_to_failure(kfp, capsys)
    assert "7 events" in output
    assert find_code(record) == "features.no-session"


def test_steps_that_kfp_does_not_list_are_known_by_their_words_in_the_store(
    kfp: Kfp, capsys: pytest.CaptureFixture[str], near_store: Store
) -> None:
    def unlisted(run: str) -> dict[str, object]:
        for step in ALL:
            near_store.write_document(
                f"runs/{run}/{step}", {"state": "done", "result": "", "summary": "", "seconds": 3.0}
            )
        return {"state": "SUCCEEDED"}

    kfp.scenes = [unlisted]
    run(kfp)
    assert "  ✓ deploy       3.0 s" in capsys.readouterr().out


@pytest.mark.parametrize(("word", "code"), [("undecided", 3), ("failed", 0)])
def test_the_word_of_a_gate_that_did_not_pass_is_read_from_the_store(
    kfp: Kfp, capsys: pytest.CaptureFixture[str], near_store: Store, word: str, code: int
) -> None:
    metrics = dict.fromkeys(("hr@5", "mrr@5", "ndcg@5", "recall@5", "coverage@5", "p90_ms"), 0.1)
    with near_store.publish("verdicts/trial", "x") as draft:
        draft.facts |= {"outcome": word, "passed": False, "conditions": [], "predictions": 1, "sessions": 1}
        draft.facts |= {"metrics": {"challenger": metrics}, "intervals": {"challenger": {"mrr@5": [0.1, 0.2]}}}
        draft.facts |= {"evidence": {"lacking": []}, "confidence": 0.95, "champion": None, "warnings": []}

    def judged(run: str) -> dict[str, object]:
        near_store.write_document(f"runs/{run}/evaluate", {"state": "done", "result": draft.address, "begun": ""})
        return scene("SUCCEEDED", dict.fromkeys([*EARLY, "report"], "SUCCEEDED"))(run)

    kfp.scenes = [judged]
    if code:
        assert run_to_failure(kfp, capsys)[0] == code
    else:
        run(kfp)


def test_a_run_that_somebody_ends_is_told(kfp: Kfp, capsys: pytest.CaptureFixture[str]) -> None:
    kfp.scenes = [scene("RUNNING", {"ingest": "RUNNING"}), scene("CANCELED", {"ingest": "CANCELED"})]
    code, _, errors = run_to_failure(kfp, capsys)
    assert (code, find_code(errors)) == (1, "run.canceled")


def test_a_run_past_its_deadline_is_ended(kfp: Kfp, capsys: pytest.CaptureFixture[str]) -> None:
    old = "2026-03-02T10:00:00Z"
    kfp.scenes = [lambda run: {**scene("RUNNING", {"ingest": "RUNNING"})(run), "created_at": old}]
    code, _, errors = run_to_failure(kfp, capsys, "--set", "pipeline.deadline=2h")
    assert (code, find_code(errors)) == (1, "run.deadline-passed")
    assert kfp.runs[0]["state"] == "CANCELED"
    assert "activeDeadlineSeconds" in json.dumps(kfp.versions[0])


def test_a_kfp_that_drops_the_workflows_deadline_runs_a_version_that_has_all_other_settings(kfp: Kfp) -> None:
    kfp.before_2_17, kfp.scenes = True, [GOOD]
    for _ in range(2):
        run(kfp, "--set", "pipeline.deadline=2h")
    ran = {one["pipeline_version_reference"]["pipeline_version_id"] for one in kfp.runs}
    (version,) = [one["pipeline_spec"] for one in kfp.versions if one["pipeline_version_id"] in ran]
    assert "secretAsEnv" in json.dumps(version["platform_spec"])
    assert len(kfp.versions) == 2


def test_without_waiting_the_commands_to_follow_and_end_are_shown_and_work(
    kfp: Kfp, capsys: pytest.CaptureFixture[str]
) -> None:
    kfp.scenes = [scene("RUNNING", {"ingest": "RUNNING"})]
    run(kfp, "--no-wait")
    output, run_id = capsys.readouterr().out, kfp.runs[0]
    assert f"--on kfp --follow {run_id['run_id']}" in output
    assert f"--on kfp --end {run_id['run_id']}" in output
    kfp.scenes = [GOOD]
    run(kfp, "--follow", run_id["run_id"], "--json")
    followed = capsys.readouterr()
    assert "  ✓ deploy" in followed.err
    document = json.loads(followed.out)
    assert (document["run"], document["state"]) == (run_id["run_id"], "succeeded")
    assert [step["step"] for step in document["steps"]][-1] == "deploy"
    run_id["state"] = "RUNNING"
    run(kfp, "--end", run_id["run_id"], "--json")
    assert json.loads(capsys.readouterr().out)["state"] == "ending"
    assert (run_id["state"], len(kfp.runs)) == ("CANCELED", 1)


def test_interrupted_it_says_that_the_run_goes_on(kfp: Kfp) -> None:
    kfp.scenes = [scene("RUNNING", {"ingest": "RUNNING"})]
    # What runs in a script's background is started with Ctrl-C ignored, and tests may run there.
    heeding = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    main = f"{heeding}; from endcap.cli.main import main; main()"
    command = [sys.executable, "-c", main, "run", SPEC, "--on", "kfp"]
    process = subprocess.Popen(
        [*command, "--kfp-host", kfp.url], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    limit = time.monotonic() + 120
    while not any(one.startswith("GET /apis/v2beta1/runs/") for one in kfp.requests):
        assert process.poll() is None
        assert time.monotonic() < limit
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert f"--follow {kfp.runs[0]['run_id']}" in output
    assert kfp.runs[0]["state"] == "RUNNING"


class TestTrouble:
    """A server that is busy, away, or refuses."""

    def test_while_following_errors_are_waited_out(self, kfp: Kfp, capsys: pytest.CaptureFixture[str]) -> None:
        kfp.scenes = [scene("RUNNING", {"ingest": "RUNNING"}), GOOD]
        kfp.trouble = [("GET /apis/v2beta1/runs/", status) for status in (500, 0, 503, 429)]
        run(kfp)
        assert "asks again" in capsys.readouterr().out
        assert kfp.trouble == []

    def test_before_that_too_and_the_run_is_made_once(self, kfp: Kfp) -> None:
        kfp.scenes = [GOOD]
        kfp.trouble = [("healthz", 0), ("POST /apis/v2beta1/pipelines/upload_version", 500), ("experiments", 503)]
        kfp.lost = ["POST /apis/v2beta1/runs", "POST /apis/v2beta1/pipelines/upload_version"]
        run(kfp)
        assert (len(kfp.runs), len(kfp.versions), kfp.lost) == (1, 1, [])

    def test_a_token_is_asked_for_and_used(
        self, kfp: Kfp, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        kfp.token, kfp.scenes = "secret-word", [GOOD]
        code, _, errors = run_to_failure(kfp, capsys, "--kfp-token", "wrong")
        assert (code, find_code(errors)) == (2, "kfp.forbidden")
        monkeypatch.setenv("KFP_EXISTING_TOKEN", "secret-word")
        run(kfp)
        assert len(kfp.runs) == 1

    def test_an_address_where_nothing_listens_is_told(self, kfp: Kfp, capsys: pytest.CaptureFixture[str]) -> None:
        code, _, errors = run_to_failure(kfp, capsys, "--kfp-host", "http://127.0.0.1:9")
        assert (code, find_code(errors)) == (1, "kfp.unreachable")

    def test_without_any_address_the_ways_to_give_one_are_named(
        self, kfp: Kfp, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit):
            main(["run", SPEC, "--on", "kfp"])
        assert find_code(capsys.readouterr().err) == "kfp.no-host"

    @pytest.mark.parametrize(
        "arguments",
        [
            ["--store", "here"],
            ["--store", "file:///data"],
            ["--registry", "sqlite:///x.db"],
            ["--registry", "http://localhost:5000"],
        ],
    )
    def test_what_a_cluster_cannot_reach_is_refused(
        self, kfp: Kfp, capsys: pytest.CaptureFixture[str], arguments: list[str]
    ) -> None:
        code, _, errors = run_to_failure(kfp, capsys, *arguments)
        assert (code, find_code(errors)) == (2, "cli.unreachable-from-cluster")
        assert errors.startswith(f"error: {arguments[0]} {arguments[1]}: ")
        assert kfp.requests == []

    def test_sources_that_lie_on_this_machine_are_refused_and_named(
        self, kfp: Kfp, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("ENDCAP_DEMO", "/logs/of/mine")
        demo = ["run", str(ROOT / "pipelines" / "specs" / "demo.yaml"), "--on", "kfp", "--kfp-host", kfp.url]
        with pytest.raises(SystemExit) as stopped:
            main(demo)
        errors = capsys.readouterr().err
        assert stopped.value.code == 2
        assert "events.sources[0].path: found /logs/of/mine/events" in errors
        assert "items.sources[0].path: found /logs/of/mine/items.csv" in errors
        assert kfp.requests == []

    def test_sources_in_a_bucket_are_taken(self, kfp: Kfp, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ENDCAP_DEMO", "s3://logs/demo")
        kfp.scenes = [GOOD]
        main(["run", str(ROOT / "pipelines" / "specs" / "demo.yaml"), "--on", "kfp", "--kfp-host", kfp.url])
        sources = kfp.runs[0]["runtime_config"]["parameters"]["shop"]["events"]["sources"]
        assert [source["path"] for source in sources] == ["s3://logs/demo/events"]


@pytest.mark.parametrize("verb", ["create", "submit"])
def test_kfps_own_command_takes_the_checked_in_package_and_its_defaults(kfp: Kfp, verb: str) -> None:
    package = ROOT / "pipelines" / "compiled" / "training.yaml"
    command = [Path(sys.executable).with_name("kfp"), "--endpoint", kfp.url, "run", verb, "-e", "trial", "-f", package]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))
    assert done.returncode == 0, done.stdout + done.stderr
    (result,) = kfp.runs
    assert result["experiment_id"] == kfp.experiments[0]["experiment_id"]
    assert result["pipeline_spec"]["pipeline_spec"]["pipelineInfo"]["name"] == "endcap-training"
    assert not result["runtime_config"].get("parameters")


def test_lists_are_made_there_by_a_pipeline_of_their_own(
    kfp: Kfp, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ENDCAP_ONLINE", "redis://127.0.0.1")  # of this machine, not the cluster's
    main(["recommend", SPEC, "--on", "kfp", "--kfp-host", kfp.url, "--version", "3", "--workers", "4", "--no-wait"])
    parameters = kfp.runs[0]["runtime_config"]["parameters"]
    assert set(parameters) == {"recommender", "shop", "store", "version", "trigger"}
    assert (parameters["version"], parameters["recommender"]["batch"]["workers"]) == ("3", 4)
    assert [one["display_name"] for one in kfp.pipelines] == ["endcap-recommend-trial"]
    follow = f"endcap recommend {SPEC} --kfp-host {kfp.url} --on kfp --follow {kfp.runs[0]['run_id']}"
    assert follow in capsys.readouterr().out
