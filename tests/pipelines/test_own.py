"""Steps of one's own: where they come in, what they get, and what is refused."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from kfp.local import subprocess_task_handler

from endcap.cli.main import main
from endcap.errors import SpecError, UserError
from endcap.runs import list_runs
from endcap.spec.load import load
from endcap.store import open_store
from tests.pipelines.packages import ROOT, Json, compile_spec, container, spec_file, steps, tasks

CHECKS = """
def count(store, snapshot, dataset, at_least=1):
    return f"{snapshot.rsplit('/', 1)[-1]} counted, at least {at_least}"

def of_the_version(version, recommender):
    return ""
"""
OWN = """
  steps:
    check: {after: features, function: my_checks:count, arguments: {at_least: 3}}
    after-check: {after: check, function: not_here:anything}
    weigh: {after: refit, image: registry.example/weigh:1, command: [weigh, now], arguments: {unit: g}}
    off: {after: ingest, function: not_here:anything, enabled: false}
    deploy: {enabled: false}
"""
PRICES = "pipeline.steps.prices.arguments"


@pytest.fixture(autouse=True)
def checks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The current folder has a module of the user's."""
    (tmp_path / "my_checks.py").write_text(CHECKS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "my_checks", raising=False)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The functions that KFP's local runner starts a process for."""
    names: list[str] = []
    start = subprocess_task_handler.run_local_subprocess

    def noted(full_command: list[str], env_vars: dict[str, str] | None = None) -> int:
        names.append(full_command[full_command.index("--function_to_execute") + 1])
        return int(start(full_command=full_command, env_vars=env_vars))

    monkeypatch.setattr(subprocess_task_handler, "run_local_subprocess", noted)
    return names


def after(package: Json, step: str) -> list[str]:
    return sorted(tasks(package)[step].get("dependentTasks", []))


def test_a_step_comes_after_its_step_and_before_those_that_follow(tmp_path: Path) -> None:
    package = compile_spec(tmp_path, OWN)
    built_in = {"ingest", "features", "train", "evaluate", "refit", "register", "report"}
    assert set(steps(package)) == built_in | {"check", "after-check", "weigh"}
    assert after(package, "check") == ["features", "ingest"]
    assert after(package, "after-check") == ["check", "features", "ingest"]
    assert {"check", "after-check"} <= set(after(package, "train"))
    assert "weigh" in after(package, "register")


def test_a_function_gets_what_the_run_has_made_so_far(tmp_path: Path) -> None:
    inputs = steps(compile_spec(tmp_path, OWN))["check"]["inputs"]["parameters"]
    assert inputs["snapshot"]["taskOutputParameter"]["producerTask"] == "ingest"
    assert inputs["dataset"]["taskOutputParameter"]["producerTask"] == "features"
    assert "trained" not in inputs
    assert inputs["arguments"]["runtimeValue"]["constant"] == {"at_least": 3}


def test_a_container_gets_it_in_its_environment(tmp_path: Path) -> None:
    weigh = container(compile_spec(tmp_path, OWN), "weigh")
    assert weigh["image"] == "registry.example/weigh:1"
    assert weigh["command"][0] == "env"
    assert weigh["command"][-2:] == ["weigh", "now"]
    assert "ENDCAP_PACKAGE={{$.inputs.parameters['package']}}" in weigh["command"]
    assert weigh["args"] == ["--unit=g"]


def test_register_can_be_switched_off_and_a_step_after_it_moves_up(tmp_path: Path) -> None:
    settings = (
        "  steps: {register: {enabled: false}, deploy: {enabled: false}, "
        "last: {after: register, function: not_here:f}}\n"
    )
    package = compile_spec(tmp_path, settings)
    assert set(package["components"]["comp-condition-2"]["dag"]["tasks"]) == {"refit", "last"}
    assert "refit" in after(package, "last")


@pytest.mark.parametrize(
    ("step", "code", "fields"),
    [
        ("function: my_checks:of_the_version", "step.unfilled-parameters", {"parameters": ["version"]}),
        ("function: my_checks:nothing", "step.no-function", {"function": "my_checks:nothing"}),
        ("function: my_checks:count, arguments: {most: 3}", "step.unknown-arguments", {"arguments": ["most"]}),
    ],
)
def test_a_function_that_cannot_be_called_is_refused_when_the_package_is_made(
    tmp_path: Path, step: str, code: str, fields: Json
) -> None:
    with pytest.raises(UserError) as refused:
        compile_spec(tmp_path, f"  steps: {{mine: {{after: features, {step}}}}}\n")
    assert refused.value.code == code
    assert fields.items() <= refused.value.fields.items()


@pytest.mark.parametrize(
    ("step", "key"),
    [
        ("mine: {after: features, image: some/image}", "pipeline.steps.mine.command"),
        ("mine: {after: nowhere, function: a:b}", "pipeline.steps.mine.after"),
        ("report: {after: features, function: a:b}", "pipeline.steps.report"),
        ("train: {enabled: false}", "pipeline.steps.train.enabled"),
        ("register: {enabled: false}", "pipeline.steps.register.enabled"),
    ],
)
def test_a_chain_that_cannot_be_is_refused_when_the_spec_is_read(tmp_path: Path, step: str, key: str) -> None:
    with pytest.raises(SpecError) as refused:
        load(spec_file(tmp_path, f"  steps: {{{step}}}\n"))
    assert [problem.key for problem in refused.value.problems] == [key]


def test_an_overlay_puts_steps_in_and_switches_them_off(tmp_path: Path) -> None:
    file = spec_file(tmp_path, OWN)
    overlay = tmp_path / "toys" / "overlays" / "dev.yaml"
    overlay.parent.mkdir(parents=True)
    overlay.write_text("pipeline: {steps: {weigh: {enabled: false}, 'off': {enabled: true}, check: null}}\n")
    with pytest.raises(SpecError) as refused:
        load(file, env="dev")
    assert [problem.key for problem in refused.value.problems] == ["pipeline.steps.after-check.after"]
    overlay.write_text("pipeline: {steps: {weigh: {enabled: false}, 'off': {enabled: true}}}\n")
    names = load(file, env="dev").recommender.pipeline.steps
    assert (names["weigh"].enabled, names["off"].enabled) == (False, True)


@pytest.mark.slow
def test_here_the_guides_function_runs_beside_the_other_steps_and_a_container_is_passed_over(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], started: list[str]
) -> None:
    guide = (ROOT / "docs" / "pipelines.md").read_text()
    code = next(block for block in re.findall(r"```python\n(.*?)```", guide, re.DOTALL) if "my_shop" in block)
    (tmp_path / "my_shop").mkdir()
    (tmp_path / "my_shop" / "checks.py").write_text(code)
    settings = """
  steps:
    prices: {after: ingest, function: "my_shop.checks:prices", arguments: {most: 1000000}}
    weigh: {after: ingest, image: registry.example/weigh:1, command: [weigh]}
"""
    file = str(spec_file(tmp_path, settings))
    main(["run", file, "--pipeline", "features", "--store", "store"])
    output = capfd.readouterr().out
    done = [line.split()[1] for line in output.splitlines() if line.startswith("  ✓")]
    assert done == ["ingest", "prices", "features"]
    assert "dearest item" in output
    assert "weigh               not run: a container runs in a cluster only" in output
    (run,) = list_runs(open_store("store"))
    assert (run.state, run.pipeline, run.recommender, run.how) == ("succeeded", "features", "toys", "command line")
    assert [(step.name, step.state) for step in run.steps] == [
        ("ingest", "done"),
        ("prices", "done"),
        ("features", "done"),
    ]

    with pytest.raises(SystemExit):
        main(["run", file, "--pipeline", "features", "--store", "store", "--set", f"{PRICES}.most=1"])
    assert "step prices failed: an item costs" in capfd.readouterr().err
    newest = list_runs(open_store("store"))[0]
    assert (newest.state, newest.failed_step) == ("failed", "prices")

    # What is there is found, and no process is started for it; a function of one's own is called each time.
    assert started == ["ingest", "custom", "features", "report", "custom", "report"]
    assert [(step.name, step.reused) for step in newest.steps] == [("ingest", True), ("prices", False)]
    assert newest.steps[0].result == run.steps[0].result
    assert run.steps[0].result in (tmp_path / "store" / "runs" / newest.name / "ingest.log").read_text()
