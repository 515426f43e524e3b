"""Commands on a file with `for_each`: each recommender in turn, whatever becomes of the others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from endcap.cli.main import main
from endcap.store import open_store
from tests.cli.printed_errors import find_code
from tests.spec.test_load import RECOMMENDER, SHOP, specs, write

__all__ = ["specs"]

EACH = """\
for_each:
  values: {shoes: {}, hats: {set: {shop.events.columns.item: nothing}}, coats: {}}
  set: {"shop.events.sources[0].where": {category: "${each}"}}
"""
LOG = "sid,sku,time,category\n" + "".join(
    f"{session},{category[0]}{item},{1_700_000_000 + session * 1000 + item},{category}\n"
    for category, sessions in (("shoes", range(1, 5)), ("hats", range(5, 9)), ("coats", range(9, 15)))
    for session in sessions
    for item in range(3)
)


@pytest.fixture
def file(specs: Path) -> Path:
    write(specs / "shops" / "data" / "events.csv", LOG)
    columns = SHOP.replace("item: sku}", "item: sku, time: time}\n  time: {unit: s}")
    write(specs / "shops" / "toys.yaml", f"{columns}features: {{}}\n")
    return write(specs / "home.yaml", RECOMMENDER + EACH)


def test_a_failure_is_told_and_the_others_run(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(file, file.read_text().replace("shop.events.columns.item: nothing", "model.neighbours: -1"))
    with pytest.raises(SystemExit) as end:
        main(["spec", "check", str(file)])
    assert end.value.code == 1
    shown, said = capsys.readouterr()
    assert [line.split()[1] for line in shown.splitlines()] == ["home-shoes", "home-coats"]
    assert find_code(said.splitlines()[-1]) == "cli.recommenders-failed"
    # A single file cannot hold the packages of several.
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        main(["compile", str(file), "--output", "all.yaml"])
    assert end.value.code == 2


@pytest.mark.slow
def test_each_recommender_has_a_run_and_data_of_its_own(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "store"
    with pytest.raises(SystemExit) as end:
        main(["run", str(file), "--pipeline", "features", "--store", str(store), "--json"])
    assert end.value.code == 1
    text, documents = capsys.readouterr().out, []
    while text.strip():
        document, length = json.JSONDecoder().raw_decode(text.lstrip())
        documents.append(document)
        text = text.lstrip()[length:]
    *runs, failure = documents
    assert [(run["recommender"], run["shop"]) for run in runs] == [
        ("home-shoes", "toys-shoes"),
        ("home-coats", "toys-coats"),
    ]
    assert failure["error"]["fields"]["failed"] == ["home.yaml#hats"]
    datasets = [next(step["result"] for step in run["steps"] if step["step"] == "features") for run in runs]
    events = [open_store(str(store)).manifest(dataset)["facts"]["events"] for dataset in datasets]
    assert events == [12, 18]
