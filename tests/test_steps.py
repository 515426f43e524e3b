"""The table of steps holds with what is built from it."""

from __future__ import annotations

import importlib
import inspect
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from endcap.spec.load import load
from endcap.spec.recommender import Recommender
from endcap.spec.settings import (
    FeatureSettings,
    JudgeSettings,
    ListSettings,
    RefitSettings,
    StepSettings,
    TrainSettings,
)
from endcap.spec.shop import Shop
from endcap.spec.spec_files import find_spec
from endcap.steps import PIPELINES, REPORT, SQL, STEPS, Step, list_parameters, list_steps
from endcap_components import load_component

_KFP_GIVES = {"store", "run", "created", "image"}


@pytest.mark.parametrize("step", [*STEPS.values(), SQL, REPORT], ids=lambda step: step.name)
def test_a_component_takes_what_the_table_says(step: Step) -> None:
    component = load_component(step.name)
    inputs = set(component.component_spec.inputs)
    given = _KFP_GIVES if step is not REPORT else {"store", "run", "status", "steps", "pipeline"}
    given = given | ({"tables"} if step.tables else set())
    given = given | ({"name", "settings"} if step is SQL else set())
    assert inputs == {*step.takes, *given}


@pytest.mark.parametrize("name", STEPS)
def test_a_steps_inputs_are_made_before_it(name: str) -> None:
    step = STEPS[name]
    for pipeline in step.pipelines:
        steps = list_steps(pipeline)
        earlier = {before.makes for before in steps[: steps.index(step)]}
        assert set(step.inputs) <= earlier


@pytest.mark.parametrize("name", STEPS)
def test_a_steps_settings_are_keys_of_the_specs(name: str) -> None:
    for key in STEPS[name].settings:
        if key == "*":
            continue
        model: type = Shop if key.startswith("shop.") else Recommender
        first = key.removeprefix("shop.").split(".")[0]
        assert first in model.model_fields, f"{key} of the step {name}"


@pytest.mark.slow
@pytest.mark.parametrize("pipeline", PIPELINES)
def test_a_pipelines_parameters_are_those_of_its_definition(pipeline: str) -> None:
    definition = entry_points(group="endcap.pipelines")[pipeline].load()(load(find_spec("trial")))
    assert set(definition.component_spec.inputs) == {*list_parameters(pipeline), "image"}
    made = {step.makes for step in list_steps(pipeline)}
    assert made & set(list_parameters(pipeline)) <= {"version"}


def test_entries_are_functions() -> None:
    for step in (*STEPS.values(), SQL):
        if step.entry:
            module, _, name = step.entry.partition(":")
            assert inspect.isfunction(getattr(importlib.import_module(module), name)), step.entry


@pytest.mark.parametrize(
    ("name", "settings"),
    [("features", FeatureSettings), ("train", TrainSettings), ("evaluate", JudgeSettings), ("recommend", ListSettings)],
)
def test_a_steps_settings_are_what_its_key_is_made_of(name: str, settings: type[StepSettings]) -> None:
    keys = {f"evaluation.{key}" if key in ("protocol", "basket") else key for key in settings.places()}
    keys = {key for key in keys if "evaluation" not in keys or not key.startswith("evaluation.")}
    keys = {f"shop.{key}" for key in keys - {"kept_types"}} if name == "features" else keys
    keys |= {"batch.active_within"} if name == "recommend" else set()  # by the customers whom it chooses
    others = {"evaluate": {"shop.rules"}, "recommend": {"shop.rules"}}.get(name, set())  # by their content
    assert set(STEPS[name].settings) == keys | others


def test_what_is_read_and_in_no_key_is_a_decision() -> None:
    named = {"name", "shop", "classes"}
    assert {
        kind: kind.carried() for kind in (FeatureSettings, TrainSettings, RefitSettings, JudgeSettings, ListSettings)
    } == {
        FeatureSettings: {"name", "spark"},
        TrainSettings: {*named, "baselines", "training", "secret"},
        RefitSettings: {*named, "baselines", "training", "secret"},
        JudgeSettings: named,
        ListSettings: {"name", "batch"},
    }


def test_the_architecture_guide_shows_the_table() -> None:
    guide = (Path(__file__).parents[1] / "docs" / "architecture.md").read_text(encoding="utf-8")
    for step in STEPS.values():
        takes = ", ".join((*step.documents, *step.inputs))
        row = f"| {step.name} | {takes} | {step.makes}".rstrip() + " |"
        assert row in guide, row
