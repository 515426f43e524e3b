"""What was made of what: versions back to files, files to versions, and what differs between two versions."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import endcap
from endcap.cli.main import main
from endcap.experiments.ranking_token import TokenSigner
from endcap.lineage import trace_artifact, trace_file
from endcap.registry.factory import get_default_uri
from endcap.store import get_content_key, open_store
from tests.cli.printed_errors import parse_error
from tests.events.shops import write_csv

HOME = """\
apiVersion: endcap/v2
kind: Recommender
name: home
shop: toys.yaml
model: {name: popularity}
split: {by: time, test: 0.2, validation: 0.2}
evaluation: {cutoffs: [5], bootstrap: 100}
gate: {evidence: {min_sessions: 1, max_half_width: 100}, conditions: []}
"""
SHOP = """\
apiVersion: endcap/v2
kind: Shop
name: toys
events: {sources: [{path: in}], columns: {session: session, customer: customer, type: type}}
"""


def write_token(recommender: str, version: str) -> str:
    return f"{TokenSigner(recommender).write(version, 'none', 'model' if version else 'fallback', time=0)}.0"


class TwoVersions(NamedTuple):
    """A store with two versions of a recommender; a day was changed between them, and another came."""

    folder: Path
    store: endcap.store.Store
    where: list[str]


def write_day(folder: Path, day: int, visits: int) -> None:
    rows = [
        f"s{day}-{visit},c{visit},{letter},2024-03-{day:02}T10:0{step}:00Z,view"
        for visit in range(visits)
        for step, letter in enumerate("abcdef"[visit : visit + 3])
    ]
    write_csv(folder / "in" / f"2024-03-{day:02}.csv", rows)


def make_version(folder: Path, **sections: Any) -> None:
    project = endcap.open(folder / "home.yaml", store=str(folder / "store"))
    project = project.replace(**sections) if sections else project
    for step in (project.ingest, project.features, project.train, project.evaluate, project.refit, project.register):
        step()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, empty_registry: Path) -> TwoVersions:
    folder = tmp_path_factory.mktemp("lineage")
    (folder / "toys.yaml").write_text(SHOP)
    (folder / "home.yaml").write_text(HOME)
    store = open_store(str(folder / "store"))
    shutil.copy(empty_registry, get_default_uri(store).removeprefix("sqlite:///"))
    for day in range(1, 9):
        write_day(folder, day, 3)
    make_version(folder)
    write_day(folder, 8, 4)
    write_day(folder, 9, 4)
    make_version(folder, seed=7)
    return TwoVersions(folder, store, ["--store", store.root])


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    """Return the document that a command prints, or the error's code if it fails."""
    capsys.readouterr()
    try:
        main([*arguments, "--json"])
    except SystemExit:
        return parse_error(capsys.readouterr().out)["code"]
    return json.loads(capsys.readouterr().out)


def test_a_version_leads_to_the_files_of_its_days(made: TwoVersions, capsys: pytest.CaptureFixture[str]) -> None:
    told = call(capsys, "lineage", "home", "--version", "2", *made.where)
    kinds = {get_content_key(artifact["address"]).split("/")[0] for artifact in told["artifacts"]}
    assert kinds == {"packages", "refitted", "trained", "verdicts", "datasets", "snapshots"}
    assert not any(artifact["gone"] for artifact in told["artifacts"])
    assert list(told["days"]) == [f"2024-03-0{day}" for day in range(1, 10)]
    assert [(Path(file["path"]).stem, file["days"]) for file in told["files"]] == [(day, [day]) for day in told["days"]]
    assert call(capsys, "lineage", "home", "--ranking", write_token("home", "1"), *made.where)["version"] == "1"


def test_a_file_leads_to_all_that_was_made_of_it(made: TwoVersions, capsys: pytest.CaptureFixture[str]) -> None:
    late = call(capsys, "lineage", "--file", "in/2024-03-09.csv", *made.where)
    assert [version["version"] for version in late["versions"]] == ["2"]
    changed = trace_file("2024-03-08.csv", made.store)
    assert [file.days for file in changed.files] == [("2024-03-08",), ("2024-03-08",)]
    assert [number for _, number in changed.versions or ()] == ["1", "2"]
    by_content = trace_file(changed.files[0].sha256, made.store)
    assert [number for _, number in by_content.versions or ()] == ["1"]
    assert {"snapshots", "datasets", "trained", "packages"} <= {artifact.kind for artifact in by_content.artifacts}


def test_two_versions_differ_in_data_settings_and_metrics(
    made: TwoVersions, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(capsys, "registry", "diff", "home", "1", "1", *made.where) == []
    rows = call(capsys, "registry", "diff", "home", "1", "2", *made.where)
    named = {(row["subject"], row["name"].rsplit("/")[-1]): (row["first"], row["second"]) for row in rows}
    assert named["data", "day 2024-03-09"][0] is None
    assert {key for _, key in named if key.startswith("day ")} == {"day 2024-03-08", "day 2024-03-09"}
    assert named["data", "2024-03-09.csv"] == (None, "read")
    assert named["data", "events"][0] < named["data", "events"][1]


def test_what_was_deleted_is_named_and_marked(made: TwoVersions, tmp_path: Path) -> None:
    shutil.copytree(made.folder / "store", tmp_path / "store")
    store = open_store(str(tmp_path / "store"))
    (package, *_) = store.list("packages/home")
    (gone, *_) = store.list("snapshots/toys")
    shutil.rmtree(store.fetch(gone))
    traced = trace_artifact(package, store)
    assert [get_content_key(artifact.address) for artifact in traced if artifact.is_gone] == [get_content_key(gone)]
    Path(get_default_uri(store).removeprefix("sqlite:///")).unlink()
    assert trace_file("2024-03-09.csv", store).versions is None


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ([], "cli.lineage-of-what"),
        (["home", "--file", "x"], "cli.lineage-of-what"),
        (["--file", "2024-04-01.csv"], "lineage.file-not-found"),
        (["home", "--ranking", "abc"], "lineage.ranking-unreadable"),
        (["home", "--ranking", write_token("shoes", "1")], "lineage.ranking-unreadable"),
        (["home", "--ranking", write_token("home", "")], "lineage.ranking-without-version"),
        (["hats"], "cli.recommender-not-found"),
    ],
)
def test_what_cannot_be_traced_is_refused(
    arguments: list[str], code: str, made: TwoVersions, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(capsys, "lineage", *arguments, *made.where) == code
