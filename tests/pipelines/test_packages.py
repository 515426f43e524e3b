"""The compiled packages, as KFP would read them."""

from __future__ import annotations

from pathlib import Path

import pytest

from endcap.cli.main import main

from .packages import ROOT, Json, checked, container, steps, tasks

COMPILED = ROOT / "pipelines" / "compiled"


@pytest.fixture(scope="module")
def training() -> Json:
    return checked((COMPILED / "training.yaml").read_text())


def test_checked_in_packages_are_what_the_definitions_compile_to() -> None:
    main(["compile", "--check"])


@pytest.mark.parametrize("name", ["training", "training-gpu", "features"])
def test_checked_in_packages_keep_to_kfps_schemas_and_need_no_parameter(name: str) -> None:
    package = checked((COMPILED / f"{name}.yaml").read_text())
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
    parameters = checked(Path("mine.yaml").read_text())["root"]["inputDefinitions"]["parameters"]
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
