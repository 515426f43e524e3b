"""A KFP of several users: pipelines, experiments and runs belong to a namespace."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from kfp.client import Client

from endcap.cli.main import main
from endcap_pipelines import kfp_client
from tests.cli.printed_errors import find_code
from tests.kfp.namespaces import User
from tests.kfp.server import Kfp
from tests.kfp.test_run import GOOD, SPEC, run, run_to_failure

PIPELINE = "endcap-training-trial"


@pytest.fixture
def shared(kfp: Kfp, monkeypatch: pytest.MonkeyPatch) -> Kfp:
    """Ann works in two namespaces, and a third is somebody else's."""
    kfp.rules.multi_user, kfp.token, kfp.scenes = True, "of the service", [GOOD]
    kfp.rules.users = {"anns-token": User("ann@shop.example", frozenset({"team-a", "team-b"}))}
    monkeypatch.setenv("KFP_EXISTING_TOKEN", "anns-token")
    return kfp


def test_each_namespace_has_its_own_and_a_shared_pipeline_of_the_same_name_is_left_alone(shared: Kfp) -> None:
    shared.pipelines.append({"pipeline_id": "of-all", "display_name": PIPELINE, "namespace": ""})
    for namespace in ("team-a", "team-a", "team-b"):
        run(shared, "--kfp-user-namespace", namespace)
    assert [runs["namespace"] for runs in shared.pipelines] == ["", "team-a", "team-b"]
    assert [runs["namespace"] for runs in shared.experiments] == ["team-a", "team-b"]
    ran = Counter(runs["pipeline_version_reference"]["pipeline_id"] for runs in shared.runs)
    assert ran == {shared.pipelines[1]["pipeline_id"]: 2, shared.pipelines[2]["pipeline_id"]: 1}
    assert len(shared.versions) == 2


def test_what_another_run_makes_at_the_same_moment_is_taken(shared: Kfp) -> None:
    shared.rivals = ["POST /apis/v2beta1/pipelines", "pipelines/upload_version", "POST /apis/v2beta1/experiments"]
    run(shared, "--kfp-user-namespace", "team-a")
    assert (len(shared.pipelines), len(shared.versions), len(shared.experiments)) == (1, 1, 1)
    assert (len(shared.runs), shared.rivals) == (1, [])


def test_a_namespace_that_one_may_not_work_in_is_told_in_kfps_words(
    shared: Kfp, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, output = run_to_failure(shared, capsys, "--kfp-user-namespace", "team-c")
    assert (code, find_code(output)) == (2, "kfp.forbidden")
    assert "ann@shop.example" in output
    assert "Namespace:team-c" in output
    assert (shared.pipelines, shared.runs) == ([], [])


@pytest.mark.parametrize("before", [[], ["--kfp-namespace", "team-a"], ["--kfp-namespace", "kubeflow"]])
def test_a_namespace_that_is_not_said_is_asked_for(
    shared: Kfp, capsys: pytest.CaptureFixture[str], before: list[str]
) -> None:
    """`--kfp-namespace` once said both where KFP is and who asks."""
    code, _, output = run_to_failure(shared, capsys, *before)
    assert (code, find_code(output)) == (2, "kfp.no-user-namespace")
    assert ("--kfp-user-namespace team-a" in output) == ("team-a" in before)
    assert shared.requests == ["GET /apis/v2beta1/healthz"]


def test_it_may_be_said_by_a_variable_or_by_kfps_own_settings(
    shared: Kfp, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = tmp_path / "context.json"
    settings.write_text(json.dumps({"namespace": "team-a"}))
    monkeypatch.setattr(Client, "_LOCAL_KFP_CONTEXT", str(settings))
    run(shared, "--no-wait")
    monkeypatch.setenv("KFP_USER_NAMESPACE", "team-b")
    run(shared, "--no-wait")
    assert [runs["namespace"] for runs in shared.experiments] == ["team-a", "team-b"]


def test_in_a_pod_its_namespace_and_its_token_count(
    shared: Kfp, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, text in (("namespace", "team-b\n"), ("token", "anns-token\n")):
        (tmp_path / name).write_text(text)
    monkeypatch.delenv("KFP_EXISTING_TOKEN")
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(kfp_client, "TOKEN", tmp_path / "token")
    monkeypatch.setattr(Client, "_NAMESPACE_PATH", str(tmp_path / "namespace"))
    monkeypatch.setattr(Client, "_LOCAL_KFP_CONTEXT", str(tmp_path / "settings" / "context.json"))
    monkeypatch.setattr(Client, "_IN_CLUSTER_DNS_NAME", shared.url.removeprefix("http://"))
    main(["run", SPEC, "--on", "kfp", "--no-wait"])
    assert [runs["namespace"] for runs in shared.experiments] == ["team-b"]
    assert not (tmp_path / "settings").exists()


def test_settings_that_are_no_json_are_named(
    kfp: Kfp, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "context.json").write_text("namespace=team-a")
    monkeypatch.setattr(Client, "_LOCAL_KFP_CONTEXT", str(tmp_path / "context.json"))
    code, _, output = run_to_failure(kfp, capsys, "--end", "x")
    assert (code, find_code(output)) == (2, "kfp.settings-unusable")


def test_a_kfp_of_one_user_has_no_namespaces(kfp: Kfp) -> None:
    run(kfp, "--kfp-user-namespace", "team-a", "--no-wait")
    run(kfp, "--no-wait")
    assert [runs["namespace"] for runs in (*kfp.pipelines, *kfp.experiments)] == ["", ""]
