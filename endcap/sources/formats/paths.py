"""Paths: names of nested values in a shop's file, and the paths that a file holds.

A path is keys with dots between (`properties.product_id`). After a key, `[]` stands for each element of a list, a row
of its own (`items[].item_id`), and `[key=value]` for the first element whose `key` is that text. Of several paths with
` | ` between, the first counts that has a value. A key in double quotes may hold any sign.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

MOST = 200
"""Paths that are kept of those that a file holds."""
HINTS = 1000
"""Rows whose nested values a message about a missing column may name."""
_DEEPEST = 12
_ELEMENTS_SEEN = 50
_KEY = r'"(?:[^"]|"")+"|[^.\[\]"]+'
_PATH = re.compile(rf"(?:{_KEY})(?:\[[^\]]*\])*(?:\.(?:{_KEY})(?:\[[^\]]*\])*)*")
_STEP = re.compile(rf"(?P<key>{_KEY})|(?P<each>\[\])|\[(?P<of>[^=\]]+)=(?P<value>[^\]]*)\]|(?P<unknown>\[[^\]]*\])")
# Structs that some writers of Parquet put round a list and round its elements.
LISTS, ELEMENTS = ("list", "bag"), ("element", "array", "array_element")


@dataclass(frozen=True)
class KeyStep:
    """Takes the value of an object's key."""

    name: str


@dataclass(frozen=True)
class EachStep:
    """Takes each element of a list as a row of its own."""


@dataclass(frozen=True)
class MatchStep:
    """Takes the first element of a list whose `key` has this value."""

    key: str
    value: str


Step = KeyStep | EachStep | MatchStep
Path = tuple[Step, ...]


def parse_path(name: str) -> list[Path]:
    """Return the paths of a column's name in order of precedence. A plain name has none."""
    paths = [_parse_steps(part) for part in re.split(r" +\| +", name)]
    plain = len(paths) == 1 and len(paths[0]) < 2 and '"' not in name
    return [] if plain or not all(paths) else paths


def format_path(path: Path) -> str:
    """Return the name that stands for a path."""
    text = ""
    for step in path:
        match step:
            case KeyStep(name):
                plain = re.fullmatch(r'[^.\[\]"]+', name) and " | " not in name
                text += "." * bool(text) + (name if plain else '"' + name.replace('"', '""') + '"')
            case EachStep():
                text += "[]"
            case MatchStep(key, value):
                text += f"[{key}={value}]"
    return text


def list_roots(paths: Iterable[Path]) -> set[str]:
    """Return the names of the columns in which paths begin."""
    return {path[0].name for path in paths if isinstance(path[0], KeyStep)}


def has_list_step(name: str) -> bool:
    """Return whether a name stands for a value of each element of a list."""
    return any(EachStep() in path for path in parse_path(name))


def fold_name(name: str) -> str:
    """Fold a name, so that names which differ in `[]`, case and underscores alone become equal."""
    return name.replace("[]", "").replace("_", "").casefold()


def join_paths(paths: Sequence[str], limit: int = 20) -> str:
    """Join the first paths for a message."""
    return ", ".join(map(repr, paths[:limit])) + (f" and {len(paths) - limit} more" if len(paths) > limit else "")


def list_type_paths(name: str, kind: pa.DataType) -> list[str]:
    """List the paths to the plain values of a nested column, at most MOST."""
    reached: dict[str, None] = {}
    _add_typed((KeyStep(name),), kind, reached)
    return list(reached)


def list_text_paths(texts: Iterable[str | None], root: str | None = None) -> list[str]:
    """List the paths to plain values in JSON texts, at most MOST, in the order of occurrence.

    root: the column that holds the texts.
    """
    reached: dict[str, None] = {}
    for document in _parse_texts(texts):
        if root is not None:
            _add_values((KeyStep(root),), document, reached)
        elif isinstance(document, dict):
            _add_values((), document, reached)
    return list(reached)


def get_element_type(kind: pa.DataType) -> pa.DataType | None:
    """Return the type of a list's elements. None: the type is no list."""
    if is_wrapper(kind, LISTS):
        kind = kind.field(0).type
    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_list_view, pa.types.is_large_list_view)
    if not any(test(kind) for test in lists):
        return None
    element: pa.DataType = kind.value_type
    return element


def is_wrapper(kind: pa.DataType, names: Sequence[str]) -> bool:
    """Return whether a type is a struct with a single field of one of these names."""
    return pa.types.is_struct(kind) and kind.num_fields == 1 and kind.field(0).name in names


def _parse_steps(part: str) -> Path:
    """Return the steps of one path. A text that is no path has none."""
    steps: list[Step] = []
    for match in _STEP.finditer(part) if _PATH.fullmatch(part) else ():
        if match["unknown"] is not None:
            return ()
        if match["key"] is not None:
            key = match["key"]
            steps.append(KeyStep(key[1:-1].replace('""', '"') if key[0] == '"' else key))
        else:
            steps.append(EachStep() if match["each"] is not None else MatchStep(match["of"], match["value"]))
    return tuple(steps)


def _add_typed(path: Path, kind: pa.DataType, reached: dict[str, None]) -> None:
    if len(reached) >= MOST or len(path) > _DEEPEST:
        return
    element = get_element_type(kind)
    if element is not None:
        element = element.field(0).type if is_wrapper(element, ELEMENTS) else element
        keyed = pa.types.is_struct(element) and element.get_field_index("key") >= 0
        _add_typed((*path, MatchStep("key", "…") if keyed else EachStep()), element, reached)
    elif pa.types.is_struct(kind):
        for inner in kind:
            if not (isinstance(path[-1], MatchStep) and inner.name == "key"):
                _add_typed((*path, KeyStep(inner.name)), inner.type, reached)
    elif pa.types.is_map(kind):
        _add_typed((*path, KeyStep("…")), kind.item_type, reached)
    elif not pa.types.is_nested(kind):
        reached.setdefault(format_path(path))


def _add_values(path: Path, value: Any, reached: dict[str, None]) -> None:
    if len(reached) >= MOST or len(path) > _DEEPEST:
        return
    if isinstance(value, dict):
        for key, inner in value.items():
            _add_values((*path, KeyStep(key)), inner, reached)
    elif isinstance(value, list) and path:
        for element in value[:_ELEMENTS_SEEN]:
            if isinstance(element, dict) and isinstance(element.get("key"), str):
                values = {key: inner for key, inner in element.items() if key != "key"}
                _add_values((*path, MatchStep("key", element["key"])), values, reached)
            else:
                _add_values((*path, EachStep()), element, reached)
    elif len(path) > 1:
        reached.setdefault(format_path(path))


def _parse_texts(texts: Iterable[str | None]) -> Iterator[Any]:
    for text in texts:
        try:
            yield None if text is None else json.loads(text)
        except (ValueError, RecursionError):
            yield None
