"""The compiled packages, as KFP would read them."""

from __future__ import annotations

from pathlib import Path

import pytest

from endcap.cli.main import main
from endcap.errors import SpecError
from tests.generate.files import find_stale, generate
from tests.pipelines.packages import ROOT, Json, check_package, compile_spec, container, steps, tasks

COMPILED = ROOT / "pipelines" / "compiled"


@pytest.fixture(scope="module")
def training() -> Json:
    return check_package((COMPILED / "training.yaml").read_text())


def test_the_generated_files_are_what_their_sources_give(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert find_stale(generate()) == [], "run `make compile`"


def test_compile_needs_a_spec(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["compile"])
    assert "SPEC" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["training", "training-gpu", "features", "recommend"])
def test_checked_in_packages_keep_to_kfps_schemas_and_need_no_parameter(name: str) -> None:
    package = check_package((COMPILED / f"{name}.yaml").read_text())
    parameters = package["root"]["inputDefinitions"]["parameters"]
    assert all(one.get("isOptional") for one in parameters.values())
    assert "path" not in str(parameters["shop"]["defaultValue"]).replace("'path': ''", "")


def test_a_report_comes_after_all_steps_and_registering_waits_for_the_gate(training: Json) -> None:
    assert set(training["root"]["dag"]["tasks"]) == {"exit-handler-1", "report"}
    assert tasks(training)["report"]["triggerPolicy"]["strategy"] == "ALL_UPSTREAM_TASKS_COMPLETED"
    handled = training["components"]["comp-exit-handler-1"]["dag"]["tasks"]
    assert set(handled) == {"ingest", "features", "train", "evaluate", "condition-2"}
    assert "passed" in handled["condition-2"]["triggerPolicy"]["condition"]
    assert set(training["components"]["comp-condition-2"]["dag"]["tasks"]) == {"refit", "register", "deploy"}


def test_lists_are_made_without_a_training_in_an_image_and_with_secrets_of_their_own(tmp_path: Path) -> None:
    settings = """
  steps:
    check: {after: features, image: registry.example/check:1, command: [check]}
    recommend: {image: registry.example/lists:2, cpu: 8, secrets: [{secret: online, key: url, env: ENDCAP_ONLINE}]}
"""
    package = compile_spec(tmp_path, settings, "recommend")
    assert set(steps(package)) == {"ingest", "features", "check", "recommend", "report"}
    assert {"features", "check"} <= set(tasks(package)["recommend"]["dependentTasks"])
    assert container(package, "recommend")["image"] == "registry.example/lists:2"
    assert "registry.example/lists:2" not in container(package, "features")["image"]
    secrets = [one["secretName"] for one in package["platform"]["recommend"]["secretAsEnv"]]
    assert "online" in secrets
    with pytest.raises(SpecError) as refused:
        compile_spec(tmp_path, "  steps: {recommend: {enabled: false}}\n")
    assert [problem.key for problem in refused.value.problems] == ["pipeline.steps.recommend.enabled"]
    assert "recommend" not in steps(compile_spec(tmp_path, settings))


def test_no_task_uses_kfps_cache_and_every_image_is_the_pipelines_parameter(training: Json) -> None:
    for name, task in steps(training).items():
        assert not task["cachingOptions"].get("enableCache", False), name
        assert container(training, name)["image"] == "{{$.inputs.parameters['pipelinechannel--image']}}"


def test_nothing_is_installed_in_a_pod_and_no_place_of_a_machine_is_in_a_package(training: Json) -> None:
    text = (COMPILED / "training.yaml").read_text()
    assert "pip install" not in text
    assert str(ROOT) not in text


def test_a_package_of_ones_own_spec_has_its_documents_as_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    main(["compile", str(ROOT / "pipelines" / "specs" / "trial.yaml"), "--set", "seed=7", "--output", "mine.yaml"])
    assert "kfp run create -e trial -f mine.yaml" in capsys.readouterr().out
    parameters = check_package(Path("mine.yaml").read_text())["root"]["inputDefinitions"]["parameters"]
    assert parameters["recommender"]["defaultValue"]["seed"] == 7
    assert parameters["shop"]["defaultValue"]["name"] == "trial"


def test_no_package_is_made_of_a_spec_whose_sources_lie_on_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ENDCAP_DEMO", "/logs/of/mine")
    with pytest.raises(SystemExit):
        main(["compile", str(ROOT / "pipelines" / "specs" / "demo.yaml"), "--output", "mine.yaml"])
    assert "events.sources[0].path: found /logs/of/mine/events" in capsys.readouterr().err
    assert not Path("mine.yaml").exists()
