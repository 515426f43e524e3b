"""Each error has a literal code of its room, and `docs/errors.md` lists the same codes, each with cause and remedy."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import get_args

import pytest

from endcap.errors import ProblemCode, SpecError

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "errors.md"
ROOMS: dict[str, tuple[str, ...]] = {
    "components": ("step", "run", "kfp"),
    "endcap/batch": ("batch",),
    "endcap/cli": ("cli", "query", "run", "schedule"),
    "endcap/client": ("client",),
    "endcap/cluster": ("cluster",),
    "endcap/deploy": ("deploy",),
    "endcap/devices": ("gpu",),
    "endcap/evaluation": ("evaluation",),
    "endcap/events": ("events", "query"),
    "endcap/features": ("features",),
    "endcap/forgetting": ("forgetting",),
    "endcap/lineage": ("lineage",),
    "endcap/models": ("models", "spec"),  # a class that a spec names
    "endcap/neural": ("neural",),
    "endcap/online": ("online",),
    "endcap/preprocessing": ("preprocessing",),
    "endcap/project": ("project",),
    "endcap/pseudonyms.py": ("pseudonyms",),
    "endcap/ranking": ("request",),
    "endcap/registry": ("registry",),
    "endcap/replay": ("replay",),
    "endcap/report": ("report",),
    "endcap/reproduction": ("reproduction",),
    "endcap/retention": ("retention",),
    "endcap/rules": ("rules",),
    "endcap/runs": ("run", "step"),
    "endcap/samples": ("samples",),
    "endcap/schedules": ("schedule",),
    "endcap/secrets.py": ("secrets",),
    "endcap/simulation": ("events",),
    "endcap/sources": ("events", "rules"),
    "endcap/sources/bigquery": ("bigquery",),
    "endcap/spark": ("spark",),
    "endcap/spec": ("spec",),
    "endcap/sql": ("sql",),
    "endcap/store": ("store",),
    "endcap/training": ("training",),
    "endcap/training/search": ("search",),
    "pipelines": ("kfp", "run"),
    "serving": ("serving", "predictor", "request"),
    "serving/gateway": ("gateway", "serving"),
    "serving/gateway/access": ("access", "gateway"),
    "serving/intake": ("intake",),
    "serving/local": ("serving", "gateway"),
    "serving/predictor": ("predictor",),
}
"""What is checked: folders and files, a folder in a folder by itself, with the prefixes of their codes."""
SOURCES = ("endcap", "serving", "components", "pipelines")
INVALID = SpecError([]).code
CODE = re.compile(r"^[a-z0-9]+\.[a-z0-9]+(-[a-z0-9]+)*$")


@dataclass(frozen=True)
class Site:
    """A place that makes an error. code: None where there is no literal one, "" where another error's is handed on.

    A class that is chosen while running counts by the literal code that it is given.
    """

    room: str | None
    place: str
    code: str | None


def _trees() -> Iterator[tuple[Path, ast.Module]]:
    for file in sorted(path for name in SOURCES for path in (ROOT / name).rglob("*.py")):
        yield file.relative_to(ROOT), ast.parse(file.read_text(encoding="utf-8"))


def _error_classes(trees: list[tuple[Path, ast.Module]]) -> set[str]:
    """Names of EndcapError and of all classes below it, wherever they are defined."""
    found, before = {"EndcapError"}, 0
    classes = [node for _, tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    while len(found) > before:
        before = len(found)
        found |= {one.name for one in classes if any(_name(base) in found for base in one.bases)}
    return found


def _foreign_classes(tree: ast.Module) -> set[str]:
    """A module's own exceptions that are none of Endcap's errors: one may have the name of an error elsewhere."""
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    return {one.name for one in classes if [_name(base) for base in one.bases] == ["Exception"]} - {"EndcapError"}


@cache
def _sites() -> list[Site]:
    trees = list(_trees())
    errors = _error_classes(trees)
    return [
        Site(_room(file), f"{file}:{node.lineno}", code)
        for file, tree in trees
        for known in [errors - _foreign_classes(tree)]
        for node in ast.walk(tree)
        for code in _codes(node, known)
    ]


def _codes(node: ast.AST, errors: set[str]) -> Iterator[str | None]:
    if isinstance(node, ast.Call):
        name = _name(node.func)
        code = next((one.value for one in node.keywords if one.arg == "code"), None)
        if isinstance(code, ast.Constant) and isinstance(code.value, str) and (name in errors or "." in code.value):
            yield code.value
        elif name in errors and isinstance(code, ast.Attribute) and code.attr == "code":
            yield ""
        elif name in errors:
            yield INVALID if name == SpecError.__name__ else None
    elif isinstance(node, ast.Raise) and node.exc is not None and _name(node.exc) in errors:
        yield None  # a class without a call


def _name(node: ast.expr) -> str:
    return ast.unparse(node).split(".")[-1]


def _room(file: Path) -> str | None:
    return max((room for room in ROOMS if file.is_relative_to(room)), key=len, default=None)


def _rows() -> dict[str, list[str]]:
    """The page's tables: cells by the word in the first of a row."""
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    named = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in lines]
    assert len({cells[0] for cells in named}) == len(named), "a code stands twice"
    return {cells[0].strip("`"): cells[1:] for cells in named}


@pytest.mark.parametrize("room", ROOMS)
def test_each_error_has_a_literal_code_of_its_room(room: str) -> None:
    sites = [site for site in _sites() if site.room == room]
    assert [site.place for site in sites if site.code is None] == []
    strange = {site.place: site.code for site in sites if site.code and not CODE.match(site.code)}
    assert strange == {}
    allowed = tuple(f"{prefix}." for prefix in ROOMS[room])
    foreign = {site.place: site.code for site in sites if site.code not in ("", INVALID, None)}
    assert {place: code for place, code in foreign.items() if not str(code).startswith(allowed)} == {}


def test_the_page_lists_the_codes_that_there_are() -> None:
    listed = {name for name in _rows() if "." in name}
    raised = {site.code for site in _sites() if site.code}
    of_rooms = {site.code for site in _sites() if site.code and site.room is not None}
    assert of_rooms - listed == set()
    prefixes = tuple(f"{prefix}." for room in ROOMS.values() for prefix in room)
    assert {code for code in listed if code.startswith(prefixes)} - raised == set()


def test_the_page_says_what_may_be_wrong_in_a_spec() -> None:
    assert {name for name in _rows() if "." not in name} == set(get_args(ProblemCode))


def test_each_row_of_the_page_has_a_cause_and_a_remedy() -> None:
    assert {name: cells for name, cells in _rows().items() if len(cells) != 2 or not all(cells)} == {}
