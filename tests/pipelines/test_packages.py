"""The compiled packages, as KFP would read them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from endcap.cli.main import main

COMPILED = Path(__file__).parents[2] / "pipelines" / "compiled"


@pytest.fixture(scope="module")
def training() -> dict[str, Any]:
    package: dict[str, Any] = yaml.safe_load((COMPILED / "training.yaml").read_text())
    return package


def tasks(package: dict[str, Any]) -> dict[str, Any]:
    """Every task by name, those inside a condition too."""
    found = dict(package["root"]["dag"]["tasks"])
    for component in package["components"].values():
        found |= component.get("dag", {}).get("tasks", {})
    return found


def test_checked_in_packages_are_what_the_definitions_compile_to() -> None:
    main(["compile", "--check"])


def test_steps_follow_each_other_and_registering_waits_for_the_gate(training: dict[str, Any]) -> None:
    assert set(training["root"]["dag"]["tasks"]) == {"ingest", "features", "train", "evaluate", "condition-1"}
    condition = training["root"]["dag"]["tasks"]["condition-1"]
    assert "passed" in condition["triggerPolicy"]["condition"]
    assert set(training["components"]["comp-condition-1"]["dag"]["tasks"]) == {"refit", "register", "deploy"}


def test_no_task_uses_kfps_cache_and_every_image_is_the_pipelines_parameter(training: dict[str, Any]) -> None:
    for name, task in tasks(training).items():
        if not name.startswith("condition"):
            assert not task["cachingOptions"].get("enableCache", False), name
    executors = training["deploymentSpec"]["executors"]
    assert {executor["container"]["image"] for executor in executors.values()} == {
        "{{$.inputs.parameters['pipelinechannel--image']}}"
    }


def test_nothing_is_installed_in_a_pod(training: dict[str, Any]) -> None:
    assert "pip install" not in yaml.safe_dump(training)
