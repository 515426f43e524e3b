"""A change of a model's code must make new outputs of every step that fits or asks it."""

from __future__ import annotations

import ast
import importlib.util
from functools import cache
from pathlib import Path

import pytest

from endcap.evaluation.judge import CODE as JUDGE
from endcap.models import catalogue
from endcap.training.refit import PACKAGE_CODE
from endcap.training.train import CODE as TRAIN

FOLLOWED = ("endcap.models", "endcap.neural", "endcap.spec.model", "endcap.spec.neural", "endcap.spec.space")


@cache
def imported(module: str) -> frozenset[str]:
    """The modules that one imports, wherever in its source."""
    found = importlib.util.find_spec(module)
    assert found is not None
    assert found.origin is not None
    names: set[str] = set()
    for node in ast.walk(ast.parse(Path(found.origin).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            names |= {node.module, *(one for one in inner if one.startswith(FOLLOWED) and is_module(one))}
    return frozenset(names)


@cache
def is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def reached(module: str) -> set[str]:
    """A module, and what it imports, directly or not, of the models' rooms."""
    seen, left = set(), [module]
    while left:
        name = left.pop()
        if name not in seen:
            seen.add(name)
            left += [one for one in imported(name) if within(one, FOLLOWED)]
    return seen


def within(name: str, rooms: tuple[str, ...]) -> bool:
    return any(name == room or name.startswith(f"{room}.") for room in rooms)


@pytest.mark.parametrize("code", [TRAIN, JUDGE, PACKAGE_CODE], ids=["train", "judge", "package"])
def test_a_step_s_fingerprint_covers_every_model_and_what_it_is_made_of(code: tuple[str, ...]) -> None:
    networks: set[str] = set()
    for module, _ in catalogue._PLACES.values():
        names = reached(module)
        assert not {name for name in names if not within(name, code)}
        networks |= {name for name in names if name.startswith("endcap.neural.")}
    assert {"endcap.neural.gru_step", "endcap.neural.attention_blocks", "endcap.neural.factors_training"} <= networks
