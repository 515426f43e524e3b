"""Names say what a thing is: no class name means two things, and no name is a bare pronoun or participle."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
FILES = sorted(
    file for folder in ("endcap", "components", "pipelines", "serving") for file in ROOT.glob(f"{folder}/**/*.py")
)
VAGUE = {"asked", "found", "given", "had", "made", "mine", "one", "others"}
VAGUE |= {"said", "seen", "them", "there", "told", "wanted", "who", "whose"}
"""Words that say how something came to be, or that it is some other thing, and not what it is."""
WIRE_FORMAT = {("endcap/errors.py", "found")}
"""The field of a problem in a spec, as the output of `--json` and HTTP bodies have it."""


def definitions(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Each name that a module defines, at any depth, with its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, node.lineno
        elif isinstance(node, ast.arg):
            yield node.arg, node.lineno
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, node.lineno
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr, node.lineno
        elif isinstance(node, ast.ExceptHandler) and node.name:
            yield node.name, node.lineno


def test_a_class_name_means_one_thing_in_the_whole_project() -> None:
    homes = defaultdict(list)
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ClassDef):
                homes[node.name].append(str(file.relative_to(ROOT)))
    assert {name: places for name, places in homes.items() if len(places) > 1} == {}


def test_no_name_is_a_bare_pronoun_or_participle() -> None:
    vague = []
    for file in FILES:
        place = str(file.relative_to(ROOT))
        for name, line in definitions(ast.parse(file.read_text())):
            if name.strip("_") in VAGUE and (place, name) not in WIRE_FORMAT:
                vague.append(f"{place}:{line}: {name}")
    assert vague == []
