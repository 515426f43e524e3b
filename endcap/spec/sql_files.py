"""Read the files of a recommender's steps of SQL into its document, and make the paths of their inputs absolute.

A step runs where the spec's files are not: in a pod. So its document has the text itself.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from endcap.errors import Problem
from endcap.safe_reading import read_bytes
from endcap.spec.layers import make_absolute
from endcap.spec.source_paths import expand_path, get_base_folder, replace_value
from endcap.spec.variables import expand
from endcap.spec.yaml_tree import Key, YamlNode, format_key, format_path

MOST_TEXT = 256 << 10
"""The most bytes of a file with a statement."""
_STEPS = ("pipeline", "steps")


def read_sql_files(document: YamlNode, problems: list[Problem]) -> YamlNode:
    """Replace the key `file` of each step of SQL by the file's text.

    Parameters
    ----------
    document
        A recommender's document, merged from its layers.
    problems
        A list to which files are added that cannot be read, and variables that are not set.

    Returns
    -------
    YamlNode
        The document, in which paths of inputs are absolute too.
    """
    steps = document.at(_STEPS)
    if document.at(_STEPS[:1]) is document or steps is document.at(_STEPS[:1]) or not isinstance(steps.value, dict):
        return document
    for name, step in steps.value.items():
        if not isinstance(step.value, dict) or "sql" not in step.value:
            continue
        key: Key = (*_STEPS, name, "sql")
        sql = step.value["sql"]
        if isinstance(sql.value, dict):
            changed = _expand_inputs(_read_file(sql, key, problems), key, problems)
            document = replace_value(document, tuple(map(str, key)), changed.value)
    return document


def _read_file(sql: YamlNode, key: Key, problems: list[Problem]) -> YamlNode:
    node = sql.value.get("file")
    if node is None or not isinstance(node.value, str) or not node.value or "text" in sql.value:
        return sql  # the model's own check reports what is wrong
    at = format_key((*key, "file"))
    path = make_absolute(get_base_folder(node) / Path(expand(node, at, problems)).expanduser())
    text = _read_text(path, node, at, problems)
    kept = {name: value for name, value in sql.value.items() if name != "file"}
    return replace(sql, value={**kept, "text": replace(node, value=text)})


def _read_text(path: Path, node: YamlNode, key: str, problems: list[Problem]) -> str:
    """Return a file's text. If it has none, a text that the model's checks accept: the problem is reported here."""
    allowed = f"a file with a SELECT in UTF-8, of at most {MOST_TEXT:,} bytes"
    try:
        text = read_bytes(path, MOST_TEXT).decode("utf-8-sig")
    except FileNotFoundError:
        actual = f"{node.value!r}, and there is no file {format_path(path)}"
        problems.append(Problem(node.place, key, actual, allowed, code="not-found"))
        return "-"
    except (OSError, ValueError) as error:
        actual = f"{node.value!r}, which cannot be read ({getattr(error, 'strerror', None) or error})"
        problems.append(Problem(node.place, key, actual, allowed, code="unreadable"))
        return "-"
    if not text.strip():
        problems.append(Problem(node.place, key, f"{node.value!r}, which is empty", allowed, code="missing"))
    return text or "-"


def _expand_inputs(sql: YamlNode, key: Key, problems: list[Problem]) -> YamlNode:
    inputs = sql.value.get("inputs")
    if inputs is None or not isinstance(inputs.value, dict):
        return sql
    changed = {
        name: expand_path(source, format_key((*key, "inputs", name, "path")), problems)
        for name, source in inputs.value.items()
    }
    return replace(sql, value={**sql.value, "inputs": replace(inputs, value=changed)})
