"""What docs/bigquery.md shows is what happens: its specs, its program and its commands."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from endcap.errors import SpecError
from endcap.spec.load import load
from endcap.store import open_store
from tests.bigquery.emulator import Emulator, run_emulator
from tests.guides import DOCS, specs

GUIDE = (DOCS / "bigquery.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """The guide's blocks in a language, in their order."""
    return [block.split("```")[0] for block in GUIDE.split(f"```{language}\n")[1:]]


def test_every_spec_is_valid(tmp_path: Path) -> None:
    for number, spec in enumerate(spec for spec in specs("bigquery.md") if spec["kind"] == "Shop"):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "shop.yaml").write_text(str(spec))
        (folder / "recommender.yaml").write_text(blocks("yaml")[-1].replace("warehouse.yaml", "shop.yaml"))
        assert load(folder / "recommender.yaml").shop.name == spec["name"]


@pytest.fixture
def fresh_emulator() -> Emulator:  # type: ignore[misc]
    """An emulator without tables."""
    with run_emulator() as emulator:
        yield emulator


@pytest.mark.slow
def test_the_commands_run(fresh_emulator: Emulator, tmp_path: Path) -> None:
    exported, commands = blocks("bash")
    for name, value in fresh_emulator.environment.items():
        assert f"export {name}=" in exported
        exported = "\n".join(
            f"export {name}={value}" if line.startswith(f"export {name}=") else line for line in exported.splitlines()
        )
    (tmp_path / "load.py").write_text(blocks("python")[0])
    *_, shop, recommender = blocks("yaml")
    (tmp_path / "warehouse.yaml").write_text(shop)
    (tmp_path / "popular.yaml").write_text(recommender)
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    ended = subprocess.run(
        ["bash", "-ec", f"{exported}\n{commands}"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    store = open_store(str(tmp_path / ".endcap" / "store"))
    assert store.list("datasets/emulated")
    snapshot = store.list("snapshots/emulated")[0]  # the description is of all days
    sources = store.manifest(snapshot)["facts"]["sources"]
    events = next(source["files"] for source in sources if source["table"] == "events")
    assert [part["partition"] for part in events] == [f"202603{day:02}" for day in range(4, 9)]


@pytest.mark.parametrize(
    ("source", "key"),
    [
        ("bigquery: {table: a.b.c, query: SELECT 1}", "bigquery.query"),
        ("bigquery: {location: EU}", "bigquery.table"),
        ("bigquery: {table: events}", "bigquery.table"),
        ("bigquery: {table: a.b.c, max_bytes: many}", "bigquery.max_bytes"),
        ("bigquery: {table: a.b.c_*, results: tmp}", "bigquery.results"),
        ("bigquery: {table: a.b.c, password: x}", "bigquery.password"),
        ("{bigquery: {table: a.b.c}, path: log.csv}", "bigquery"),
        ("{bigquery: {table: a.b.c}, format: csv}", "format"),
    ],
)
def test_a_mistake_is_reported_at_its_key(source: str, key: str, tmp_path: Path) -> None:
    shop, recommender = blocks("yaml")[-2:]
    text = shop.replace(
        "{bigquery: {table: shop-project.shop.events}}", source if source[0] == "{" else f"{{{source}}}"
    )
    (tmp_path / "warehouse.yaml").write_text(text)
    (tmp_path / "popular.yaml").write_text(recommender)
    with pytest.raises(SpecError) as raised:
        load(tmp_path / "popular.yaml")
    assert f"events.sources[0].{key}" in {problem.key for problem in raised.value.problems}
