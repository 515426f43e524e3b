"""The guides name rooms and doors that exist."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
GUIDES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]
TOP = ("charts", "components", "docs", "endcap", "manifests", "pipelines", "serving", "tests")
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
PACKAGES = {
    "endcap": "endcap",
    "components": "endcap_components",
    "pipelines": "endcap_pipelines",
    "serving": "endcap_serving",
}


def code_of(text: str) -> list[str]:
    """What stands between backticks."""
    return re.findall(r"`([^`\n]+)`", text)


def rooms() -> Iterator[tuple[str, list[str], list[str]]]:
    """Each row of the table of rooms: its text, the room's places, its doors. A row `…` goes on with the room above."""
    section = (ROOT / "docs" / "architecture.md").read_text().split("\n## Rooms\n")[1].split("\n## ")[0]
    places: list[str] = []
    for row in [line for line in section.splitlines() if line.startswith("|")][2:]:
        cells = [cell.strip() for cell in row.strip().strip("|").split(" | ")]
        places = places if cells[0].startswith("…") else code_of(cells[0])
        yield cells[0], places, code_of(cells[-1])


def modules(place: str) -> list[Path]:
    path = ROOT / place
    return sorted(path.rglob("*.py")) if path.is_dir() else [path]


def defines(file: Path, name: str) -> bool:
    """Whether a module binds a name where others can import it, in itself or in one of its classes."""
    if file.stem == name:
        return True
    owner, _, member = name.partition(".")
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.name == owner:
            return not member or any(getattr(part, "name", None) == member for part in ast.walk(node))
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(target, ast.Name) and target.id == owner for target in targets):
                return True
    return False


def exists(door: str, places: list[str]) -> bool:
    if door.startswith("make "):
        return door.removeprefix("make ") in TARGETS
    if door.startswith("python -m "):
        folder, *parts = door.removeprefix("python -m ").split(".")
        home = next((place for place, package in PACKAGES.items() if package == folder), folder)
        path = ROOT.joinpath(home, *parts)
        return (path / "__main__.py").exists() or path.with_suffix(".py").exists()
    if door.split(".")[0] in PACKAGES.values():
        first, *parts = door.split(".")
        places, door = [next(place for place, package in PACKAGES.items() if package == first)], ".".join(parts[-1:])
        return not parts or door == "open" or any(defines(file, door) for place in places for file in modules(place))
    return any(defines(file, door) for place in places for file in modules(place))


@pytest.mark.parametrize(("places", "doors"), [pytest.param(*room[1:], id=room[0][:60]) for room in rooms()])
def test_a_room_and_its_doors_exist(places: list[str], doors: list[str]) -> None:
    assert [place for place in places if not (ROOT / place).exists()] == []
    assert [door for door in doors if not exists(door, places)] == []


@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.stem)
def test_files_that_a_guide_names_exist(guide: Path) -> None:
    named = [
        code.split(":")[0].rstrip("/")
        for code in code_of(guide.read_text())
        if re.fullmatch(rf"(?:{'|'.join(TOP)})/[\w./-]+(?::\w+)?", code) and not code.startswith("pipelines/specs/")
    ]
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_picture_shows_the_layers_that_imports_obey() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = {contract["containers"][0]: contract["layers"] for contract in contracts if "containers" in contract}
    picture = (ROOT / "docs" / "architecture.md").read_text().split("\n## Rooms\n")[1].split("```")[1]
    for prefix, package in (("s", "endcap_serving"), ("l", "endcap")):
        boxes = re.findall(rf'^  {prefix}\d+\["(.+)"\]$', picture, re.MULTILINE)
        assert [box.replace("<br>", " ") for box in boxes] == [", ".join(row.split(" | ")) for row in layers[package]]
