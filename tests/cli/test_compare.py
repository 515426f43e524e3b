"""`endcap compare` and `endcap evaluate`: how models are named, and what is shown and made."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import endcap
from endcap.cli.main import main
from endcap.cli.models import ModelChoice, split_parts
from endcap.registry.factory import get_default_uri
from endcap.store import open_store
from tests.cli.printed_errors import find_code, parse_error
from tests.events.shops import write_csv

HOME = """\
apiVersion: endcap/v2
kind: Recommender
name: home
shop: toys.yaml
model: {name: vsknn, last_events: 4}
search: {trials: 3}
split: {by: time, test: 0.2, validation: 0.2}
evaluation: {cutoffs: [5], bootstrap: 100}
gate: {evidence: {min_sessions: 1, max_half_width: 100}, conditions: [{metric: mrr@5, min: 2}]}
"""
SHOP = """\
apiVersion: endcap/v2
kind: Shop
name: toys
events: {sources: [{path: in}], columns: {session: session, customer: customer, type: type}}
"""


@pytest.fixture
def spec(tmp_path: Path, empty_registry: Path) -> str:
    (tmp_path / "toys.yaml").write_text(SHOP)
    (tmp_path / "home.yaml").write_text(HOME)
    rows = [
        f"s{day}-{visit},c{visit},{letter},2024-03-{day:02}T10:0{step}:00Z,view"
        for day in range(1, 21)
        for visit in range(4)
        for step, letter in enumerate("abcdef"[visit : visit + 3])
    ]
    write_csv(tmp_path / "in" / "log.csv", rows)
    store = open_store(str(tmp_path / "store"))
    shutil.copy(empty_registry, get_default_uri(store).removeprefix("sqlite:///"))
    return str(tmp_path / "home.yaml")


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    main([*arguments])
    return capsys.readouterr().out


def failed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main([*arguments])
    return capsys.readouterr().err


def section(text: str) -> Any:
    """What a `--model` is, in a spec whose own model is vsknn with `last_events: 4`."""
    documents = {
        "recommender": {"model": {"name": "vsknn", "last_events": 4}},
        "shop": {"events": {"sources": [{"path": "x.csv"}], "columns": {"session": "s"}}},
    }
    project = endcap.open(documents, store="unused", progress=lambda line: None)
    return ModelChoice.of(text).build_model(project, lambda overlay: overlay)  # type: ignore[arg-type,return-value]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("vsknn", {"name": "vsknn"}),
        ("fast=vsknn", {"fast": {"name": "vsknn"}}),
        ("vsknn,last_events=3,idf_weight=0.5", {"name": "vsknn", "last_events": 3, "idf_weight": 0.5}),
        (
            "a b=gru4rec,features=[x, y],max_epochs=2",
            {"a b": {"name": "gru4rec", "features": ["x", "y"], "max_epochs": 2}},
        ),
        ("big={name: gru4rec, width: 200}", {"big": {"name": "gru4rec", "width": 200}}),
        ('{"name": "ease"}', {"name": "ease"}),
        ("spec", "spec"),
        ("now=spec", {"now": "spec"}),
        ("wide=blend,members.a.name=ease,members.b={name: vsknn}", None),
        ("x=over.yaml", {"x": "over.yaml"}),
        ("x=env:nightly", {"x": "env:nightly"}),
    ],
)
def test_a_model_is_named_in_each_of_these_ways(
    text: str, expected: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if expected is None:
        expected = {"wide": {"name": "blend", "members": {"a": {"name": "ease"}, "b": {"name": "vsknn"}}}}
    assert section(text) == expected


def test_the_spec_s_own_model_may_be_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    changed = section("spec,sample=7,last_events=null")
    assert (changed["sample"], changed["name"], "last_events" in changed) == (7, "vsknn", False)


def test_commas_within_brackets_and_quotes_part_nothing() -> None:
    assert list(split_parts("a,b=[1,2],c='x,y',d={e: 1, f: (2, 3)}")) == [
        "a",
        "b=[1,2]",
        "c='x,y'",
        "d={e: 1, f: (2, 3)}",
    ]


@pytest.mark.parametrize("text", ["vsknn,last_events", "{last_events: 3}", "x={name: [}", "vsknn,last_events=[1"])
def test_what_is_no_model_is_refused(spec: str, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ("compare", spec, "--store", str(tmp_path / "store"), "--model", text)
    assert find_code(failed(capsys, *given)) == "cli.model-malformed"


def fits(shown: str) -> bool:
    """Whether the lines of a table of metrics fit 80 columns."""
    lines = [
        line for line in shown.splitlines() if line.startswith(("  model ", "  popularity ", "  sequential-rules "))
    ]
    return len(lines) > 2 and max(map(len, lines)) <= 80


@pytest.mark.slow
def test_models_are_compared_and_nothing_is_registered(
    spec: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ("--store", str(tmp_path / "store"))
    overlay = tmp_path / "short.yaml"
    overlay.write_text("model: {last_events: 2}\nsearch: null\n")
    models = ("--model", "wide=spec,sample=50", "--model", f"short={overlay}", "--model", "sequential-rules")
    shown = run(capsys, "compare", spec, *models, *where)
    assert "wide: vsknn last_events=4" in shown
    assert "short: vsknn last_events=2" in shown
    assert "mrr@5 minus wide's" in shown
    assert fits(shown)
    told = json.loads(run(capsys, "compare", spec, *models, *where, "--json"))
    assert list(told["trained"]) == ["sequential-rules", "short", "wide"]
    assert Path(told["report"]).is_file()
    store = open_store(where[1])
    assert len(store.list("trained/home")) == 3
    assert len(store.list("comparisons/home")) == 1
    assert store.list("packages/home") == store.list("verdicts/home") == []
    assert run(capsys, "registry", "list", "home", *where).startswith("home has no versions yet")
    overlay.write_text("split: {test: 0.3}\n")
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(["compare", spec, *models, *where, "--json"])
    error = parse_error(capsys.readouterr().out)
    assert (error["code"], error["fields"]["keys"]) == ("evaluation.not-comparable", ["split.test"])
    assert find_code(failed(capsys, "compare", spec, *where)) == "cli.option-missing"


@pytest.mark.slow
def test_a_verdict_is_shown_and_nothing_is_registered_or_deployed(
    spec: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ("--set", "search=null", "--store", str(tmp_path / "store"))
    shown = run(capsys, "evaluate", spec, *where)
    assert "gate failed" in shown
    assert "challenger: vsknn last_events=4" in shown
    assert fits(shown)
    told = json.loads(run(capsys, "evaluate", spec, *where, "--json"))
    assert told["passed"] is False
    assert Path(told["report"]).is_file()
    store = open_store(where[-1])
    assert [len(store.list(f"{kind}/home")) for kind in ("trained", "verdicts", "packages")] == [1, 1, 0]
    assert store.read_document("deployments/home") is None
    passing = run(capsys, "evaluate", spec, *where, "--set", "gate.conditions=[]", "--logical-date", "2024-03-15")
    assert "gate passed" in passing
    listed = json.loads(run(capsys, "registry", "list", "home", *where[2:], "--json"))
    assert listed["versions"] == []
    assert [(one["outcome"], one["verdict"]) for one in listed["tries"]] == [("failed", told["address"])]


@pytest.mark.slow
def test_a_version_is_judged_by_its_package_or_by_its_recipe(
    spec: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ("--store", str(tmp_path / "store"))
    store = open_store(where[1])
    sets = ["search=null", "gate.conditions=[]"]
    project = endcap.open(spec, store=where[1], sets=sets, progress=lambda line: None)
    project.ingest()
    project.features(until="2024-03-15")
    project.train()
    project.evaluate()
    project.refit()
    number = project.register().number
    assert find_code(failed(capsys, "evaluate", "home/1", *where)) == "project.shop-not-recorded"
    judged = ("evaluate", "home@champion", "--spec", spec, *where, "--json")
    # The package learnt from all up to the 14th: of later days it has seen nothing.
    later = json.loads(run(capsys, *judged))
    assert later["trained"] == project.versions()[0].package
    assert later["metrics"]["challenger"] | {"p90_ms": 0} == later["metrics"]["champion"] | {"p90_ms": 0}
    seen = json.loads(run(capsys, *judged, "--logical-date", "2024-03-15"))
    assert seen["trained"] in store.list("recipes/home")
    assert seen["models"]["challenger"] == {"name": "vsknn", "settings": {"last_events": 4}}
    assert Path(seen["report"]).is_file()
    assert [version.version for version in project.versions()] == [number]
    assert "challenger: vsknn last_events=4" in run(capsys, *judged[:-1])
    assert find_code(failed(capsys, "evaluate", "home/7", *where)) == "registry.version-not-found"
    assert find_code(failed(capsys, "evaluate", "home@challenger", *where)) == "project.no-such-alias"
    assert find_code(failed(capsys, "evaluate", "home/1", *where, "--set", "seed=1")) == "cli.option-not-here"
    assert find_code(failed(capsys, "evaluate", "no-such-spec", *where)) == "spec.not-found"
