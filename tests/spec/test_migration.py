"""Spec files of endcap/v1: refused with the new names, and rewritten in place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from endcap.cli.spec import command
from endcap.errors import ProblemCode
from endcap.spec.environments import list_environments
from endcap.spec.load import load, load_documents
from endcap.spec_renames import RENAMES, find_changes, migrate_facts, migrate_spec
from tests.refusals import misspelt

SHOP = """\
# The shop.
apiVersion: endcap/v1   # as it was
kind: Shop
name: corner
events:
  sources: [{path: log.csv}]
  columns: {session: session, item: item, time: time}
  missing: ["NULL", '0']
  'missing_items': [ "-" ]
"""
RECOMMENDER = """\
apiVersion: "endcap/v1"
kind: Recommender
name: home
shop: corner
model:   # two members
  name: blend
  members:
    net: {name: gru4rec, batch: 32, max_events: 20}
    near:
        "last": 5      # a comment stays, with its odd indentation
        name: vsknn
    own: {name: custom, class: "acme:Model", parameters: {batch: 3, last: 4}}
classes: ["acme:Model"]
baselines:
  - {name: sequential-rules, last: 1, norm: none}
search:
  grace: 2
  finish: 10m
  max_failed: 0.25
  space: {net.batch: {values: [32, 48]}, own.batch: {values: [1, 2]}}
  fixed: [near.last, own.last]
evaluation: {negatives: {sampled: 9, draws: 2}}
gate:
  evidence: {sessions: 7, half_width: 0.5}
batch: {k: 5, active: 30d, partition: 100}
pipeline: {steps: {train: {retries: {count: 1, most: 1m}}}}
"""
OVERLAY = "search: {grace: 3, fixed: [own.last, net.max_events]}\n"


def write(folder: Path, *, line_end: str = "\n") -> list[Path]:
    texts = {"shops/corner.yaml": SHOP, "home.yaml": RECOMMENDER, "home/overlays/prod.yaml": OVERLAY}
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(text.replace("\n", line_end).encode())
    return [folder / name for name in texts]


def migrate(*words: object) -> Result:
    return CliRunner().invoke(command, ["migrate", *map(str, words)])


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_files_are_rewritten_in_place_and_nothing_but_names_changes(tmp_path: Path, line_end: str) -> None:
    files = write(tmp_path, line_end=line_end)
    result = migrate(*files)
    assert result.exit_code == 0, result.output
    shop, recommender, overlay = (file.read_bytes().decode() for file in files)
    expected = SHOP.replace("endcap/v1", "endcap/v2").replace("missing:", "null_values:")
    assert shop == expected.replace("missing_items", "null_item_values").replace("\n", line_end)
    assert '        "last_events": 5      # a comment stays' in recommender
    assert "{name: gru4rec, batch_size: 32, last_events: 20}" in recommender
    assert "parameters: {batch: 3, last: 4}" in recommender
    assert "space: {net.batch_size: {values: [32, 48]}, own.batch: {values: [1, 2]}}" in recommender
    assert "fixed: [near.last_events, own.last]" in recommender
    assert overlay == f"search: {{min_epochs: 3, fixed: [own.last, net.last_events]}}{line_end}"
    loaded = load(files[1], env="prod")
    assert loaded.recommender.gate.evidence.min_sessions == 7
    assert loaded.recommender.search is not None
    assert loaded.recommender.search.min_epochs == 3
    assert loaded.shop.events.null_item_values == ["-"]

    assert "home.yaml:8: model.members.net.batch: batch -> batch_size" in result.output
    assert len(result.output.splitlines()) == 21
    again = migrate(*files)
    assert again.exit_code == 0
    assert [line.partition(": ")[2] for line in again.output.splitlines()] == ["nothing to change"] * 3


def test_check_and_stdout_write_nothing(tmp_path: Path) -> None:
    files = write(tmp_path)
    assert migrate("--check", *files).exit_code == 1
    shown = migrate("--stdout", files[2])
    assert (shown.exit_code, shown.output) == (0, "search: {min_epochs: 3, fixed: [own.last, net.last_events]}\n")
    assert migrate("--check", "--stdout", files[2]).exit_code == 2
    assert [file.read_text() for file in files] == [SHOP, RECOMMENDER, OVERLAY]
    told = json.loads(migrate("--json", files[0]).output)["files"]
    assert told[0]["changes"][1] == {"line": 8, "key": "events.missing", "old": "missing", "new": "null_values"}
    assert migrate("--check", files[0]).exit_code == 0


def test_a_file_with_both_names_changes_nothing_anywhere(tmp_path: Path) -> None:
    files = write(tmp_path)
    files[2].write_text("search: {grace: 3, min_epochs: 4}\n")
    result = migrate(*files)
    assert result.exit_code != 0
    assert files[0].read_text() == SHOP


def test_old_names_are_refused_with_the_new_ones_and_hide_no_other_mistake(tmp_path: Path) -> None:
    write(tmp_path)
    shop = tmp_path / "shops" / "corner.yaml"
    shop.write_text(SHOP.replace("endcap/v1", "endcap/v2").replace("name: corner", "nmae: corner"))
    recommender = tmp_path / "home.yaml"
    recommender.write_text(
        "apiVersion: endcap/v2\nkind: Recommender\nname: home\nshop: corner\nseed: none\n"
        "model: {name: vsknn, last: 5}\nsearch: {space: {last: {values: [1]}}, fixed: [batch]}\n"
    )
    renamed: ProblemCode = "renamed-key"
    with misspelt(
        ("model.last", renamed),
        ("search.space.last", renamed),
        ("search.fixed[0]", renamed),
        ("seed", "wrong-type"),
        ("events.missing", renamed),
        ("events.missing_items", renamed),
        ("name", "missing"),
        ("nmae", "unknown-key"),
    ) as caught:
        load(recommender)
    text = str(caught.value)
    assert "model.last: found a key of endcap/v1; allowed: model.last_events, its name in endcap/v2" in text
    assert f"endcap spec migrate {shop}" in text


def test_an_old_name_in_set_and_in_a_document_names_the_new_one(tmp_path: Path) -> None:
    files = write(tmp_path)
    migrate(*files)
    with misspelt(("batch.active", "renamed-key"), ("events.missing", "renamed-key")) as caught:
        load(files[1], sets=["batch.active=1d", "shop.events.missing=[]"])
    assert "--set batch.active=1d: batch.active: found a key of endcap/v1; allowed: batch.active_within" in str(
        caught.value
    )
    documents = load(files[1])
    recommender = documents.recommender.model_dump(mode="json", exclude_none=True)
    recommender["gate"]["evidence"] = {"sessions": 3}
    with misspelt(("gate.evidence.sessions", "renamed-key")):
        load_documents(recommender, documents.shop.model_dump(mode="json", exclude_none=True))


def test_environments_are_refused_and_migrated_too(tmp_path: Path) -> None:
    file = tmp_path / "environments.yaml"
    file.write_text("apiVersion: endcap/v1\nkind: Environments\nenvironments: {prod: {store: x}}\n")
    with misspelt(("apiVersion", "older-version")):
        list_environments(file)
    assert migrate(file).exit_code == 0
    assert list_environments(file) == ["prod"]


def test_stored_documents_are_translated_and_those_of_this_release_stay() -> None:
    old = {"apiVersion": "endcap/v1", "kind": "Recommender", "model": {"name": "vsknn", "last": 3}, "batch": {"k": 5}}
    new = {**old, "apiVersion": "endcap/v2", "model": {"name": "vsknn", "last_events": 3}}
    assert migrate_spec(old) == new
    assert migrate_spec(new) == new
    own = {"name": "custom", "class": "acme:Model", "parameters": {"last": 3}}
    facts = {"model": old["model"], "models": {"a": own}, "found": {"last": 1}, "recipe": {"model": old["model"]}}
    assert migrate_facts(facts) == {**facts, "model": new["model"], "recipe": {"model": new["model"]}}


def test_every_old_name_of_the_table_is_found() -> None:
    for kind, paths in RENAMES.items():
        for path, new in paths.items():
            *parents, old = path.split(".")
            document: object = {old: 1}
            for part in reversed(parents):
                document = [document] if part == "*" else {part: document}
            (change,) = find_changes(document, kind)
            assert (change.old, change.new) == (old, new)
