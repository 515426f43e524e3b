"""The reference of the chart's values in docs/chart-reference.md, from values.yaml's comments and its schema."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

CHART = Path("charts/endcap")
GUIDE = Path("docs/chart-reference.md")
BEGIN = "<!-- values: generated from charts/endcap/values.yaml by `make compile` -->"
END = "<!-- values: end -->"
_KEY = re.compile(r"(?P<indent> *)(?P<key>[A-Za-z]\w*):")


@dataclass(frozen=True)
class Value:
    """A key that values.yaml has a comment on. path: of keys. leaf: no key inside it has a comment of its own."""

    path: tuple[str, ...]
    says: str
    default: Any
    leaf: bool


def guide() -> dict[Path, str]:
    """docs/chart-reference.md as it should be. Raises ValueError if the file has no place for the table."""
    text = GUIDE.read_text()
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{GUIDE}: found no {BEGIN} and {END}; the table of values belongs between them")
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = list(read((CHART / "values.yaml").read_text()))
    return {GUIDE: f"{before}{BEGIN}\n\n{table(values, schema)}\n{END}{after}"}


def read(text: str) -> Iterator[Value]:
    """Every value of a values.yaml in its order. Raises ValueError for a key without a comment above it.

    A key counts as documented by what stands inside it, too: a map of which no key has a comment is one value.
    """
    defaults = yaml.safe_load(text)
    found = list(_documented(text))
    described = {path for path, _ in found}
    for path in _maps_and_leaves(defaults):
        inside_one_value = any(
            path[:depth] in described and _one_value(path[:depth], described) for depth in range(len(path))
        )
        if path not in described and not inside_one_value:
            raise ValueError(f"{CHART / 'values.yaml'}: {'.'.join(path)} has no comment above it; say what it does")
    for path, says in found:
        default: Any = defaults
        for key in path:
            default = default[key]
        yield Value(path, says, default, _one_value(path, described))


def table(values: list[Value], schema: dict[str, Any]) -> str:
    """Markdown: a table for the keys that stand alone, then one a group."""
    alone = [value for value in values if value.leaf and len(value.path) == 1]
    lines = ["### For the whole chart", "", *_rows(alone, schema)]
    for group in (value for value in values if not value.leaf and len(value.path) == 1):
        inside = [value for value in values if value.path[0] == group.path[0] and value is not group]
        lines += ["", f"### `{group.path[0]}`", "", group.says, "", *_rows(inside, schema)]
    return "\n".join(lines) + "\n"


def _rows(values: list[Value], schema: dict[str, Any]) -> Iterator[str]:
    yield from ("| key | default | what it is |", "| --- | --- | --- |")
    for value in values:
        key = ".".join(value.path)
        if value.leaf:
            says = f"{value.says} {allowed(value.path, schema)}".strip()
            yield f"| `{key}` | `{_default(value.default)}` | {_cell(says)} |"
        else:
            yield f"| `{key}` | | *{_cell(value.says)}* |"


def allowed(path: tuple[str, ...], schema: dict[str, Any]) -> str:
    """What the schema lets a value be, where that is a list of words or a range."""
    node = schema
    for key in path:
        node = _resolved(node["properties"][key], schema)
    if "enum" in node:
        return f"One of {', '.join(f'`{word}`' for word in node['enum'])}."
    if node.get("type") == "integer" and "maximum" in node:
        return f"{node['minimum']} to {node['maximum']}."
    return ""


def _resolved(node: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in node:
        node = schema["$defs"][node["$ref"].rpartition("/")[2]]
    return node


def _documented(text: str) -> Iterator[tuple[tuple[str, ...], str]]:
    """Paths of the keys with a comment right above, and that comment on one line."""
    comment: list[str] = []
    path: list[str] = []
    for line in text.splitlines():
        if line.lstrip().startswith("#"):
            comment.append(line.lstrip().removeprefix("#").strip())
            continue
        key = _KEY.match(line)
        if key:
            path = [*path[: len(key["indent"]) // 2], key["key"]]
            if comment:
                yield tuple(path), " ".join(comment)
        comment = []


def _one_value(path: tuple[str, ...], described: set[tuple[str, ...]]) -> bool:
    return bool(path) and not any(other[: len(path)] == path and other != path for other in described)


def _maps_and_leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if path:
        yield path
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _maps_and_leaves(inner, (*path, key))


def _default(value: Any) -> str:
    """As a flow of YAML on one line."""
    return json.dumps(value) if not isinstance(value, dict | list) else _flow(value)


def _flow(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000, sort_keys=False).strip()
    return text.removesuffix("...").strip()


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
