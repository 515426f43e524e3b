"""Make the paths in a spec absolute: expand variables and `~`, and add the folder of the file."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from endcap.errors import Problem
from endcap.spec.layers import make_absolute
from endcap.spec.variables import expand
from endcap.spec.yaml_tree import YamlNode, format_key

_ADDRESS = re.compile(r"^[a-zA-Z][a-zA-Z0-9+.-]+://")


def get_base_folder(node: YamlNode) -> Path:
    """Return the folder to which a path is relative: its file's, or the current one for a value of the command line."""
    return Path.cwd() if node.file is None else node.file.parent


def expand_source_paths(document: YamlNode, problems: list[Problem]) -> YamlNode:
    """Make the path of each source in a shop's document absolute. Unset variables are added to `problems`."""
    for table in (("events",), ("items",), ("customers",), ("rules", "blacklist")):
        key = (*table, "sources")
        sources = document.at(key)
        if not isinstance(sources.value, list) or sources is document.at(table):
            continue
        name = format_key(key)
        changed = [expand_path(source, f"{name}[{n}].path", problems) for n, source in enumerate(sources.value)]
        document = replace_value(document, key, changed)
    return document


def replace_value(node: YamlNode, key: tuple[str, ...], value: Any) -> YamlNode:
    """Replace the value under an existing key."""
    if not key:
        return replace(node, value=value)
    return replace(node, value=node.value | {key[0]: replace_value(node.value[key[0]], key[1:], value)})


def expand_negatives_path(document: YamlNode, problems: list[Problem]) -> YamlNode:
    """Make the path of `evaluation.negatives` in a recommender's document absolute."""
    keys = ("evaluation", "negatives", "path")
    if document.at(keys) is document.at(keys[:2]):
        return document
    changed = expand_path(document.at(keys[:2]), ".".join(keys), problems)
    return replace_value(document, keys[:2], changed.value)


def expand_path(source: YamlNode, key: str, problems: list[Problem]) -> YamlNode:
    """Make the path of a source absolute. key: the path's, for messages. Unset variables are added to `problems`."""
    path = source.value.get("path") if isinstance(source.value, dict) else None
    if path is None or not isinstance(path.value, str) or not path.value:
        return source
    expanded = expand(path, key, problems)
    if not _ADDRESS.match(expanded):
        expanded = str(make_absolute(get_base_folder(path) / Path(expanded).expanduser()))
    return replace(source, value=source.value | {"path": replace(path, value=expanded)})
