"""Refuse old names in specs when they are loaded, and rewrite files for `endcap spec migrate`.

PyYAML tells where each key is in the text, and only the old names are replaced. So comments, order, quotes, indentation
and line ends stay, byte by byte. `endcap.spec_renames` lists the renamed keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from endcap.errors import Problem, SpecError, UserError
from endcap.safe_reading import is_file, read_bytes
from endcap.spec.yaml_tree import MOST_TEXT, YamlNode, compose_nodes, format_key, format_path, parse_yaml, read_document
from endcap.spec_renames import Key, Kind, SpecChange, apply_changes, find_changes, find_kind, is_custom_model


def migrate_node(node: YamlNode, kind: Kind, *, is_part: bool = False) -> tuple[YamlNode, list[Problem]]:
    """Rename the old keys of a document, so that its other keys can be checked.

    Parameters
    ----------
    node
        The document.
    kind
        The kind of spec.
    is_part
        Whether the document will be merged with others. Then it may not have the model of its search, and the names of
        parameters in the search are left for a check of the merged document.

    Returns
    -------
    tuple
        The document with new names, and a problem for each old name.
    """
    custom = (lambda label: True) if is_part else None
    changes = find_changes(node.plain(), kind, custom=custom)
    if not changes:
        return node, []
    by_key = {change.key: change for change in changes}
    return _rename_keys(node, (), by_key), [_make_problem(change, node) for change in changes]


@dataclass(frozen=True)
class Migration:
    """A spec file and its text under this release's names.

    Attributes
    ----------
    file
        The file, as it was given.
    text
        The new text; the old one if nothing changes.
    changes
        Each change with its line.
    """

    file: Path
    text: str
    changes: list[tuple[int, SpecChange]]

    def write(self) -> None:
        """Replace the file's text. Raises UserError if the file cannot be written."""
        try:
            self.file.write_bytes(self.text.encode())
        except OSError as error:
            raise UserError(
                f"{format_path(self.file)} cannot be written: {error.strerror}; make it writable, or use --stdout",
                code="spec.cannot-write",
                file=str(self.file),
            ) from error

    def format_lines(self) -> list[str]:
        """Return a line for each change: the place, the old name and the new one."""
        return [
            f"{format_path(self.file)}:{line}: {format_key(change.key)}: {change.old} -> {change.new}"
            for line, change in self.changes
        ]

    def to_json(self) -> dict[str, Any]:
        """Return the file and its changes as a document."""
        changes = [
            {"line": line, "key": format_key(change.key), "old": change.old, "new": change.new}
            for line, change in self.changes
        ]
        return {"file": str(self.file), "changes": changes}


def migrate_files(files: Sequence[Path]) -> list[Migration]:
    """Rename the keys of several files, without writing them. Raises SpecError with the problems of all files."""
    migrations, problems = [], []
    for file in files:
        try:
            migrations.append(migrate_file(file))
        except SpecError as error:
            problems += error.problems
    if problems:
        raise SpecError(problems)
    return migrations


def migrate_file(file: Path) -> Migration:
    """Rename the keys of a spec's file or overlay, without writing it.

    Raises
    ------
    SpecError
        The file cannot be read, is no spec, or has both an old key and the new one.
    """
    node, problems = read_document(file)
    if node is None or problems:
        raise SpecError(problems)
    text, document = read_bytes(file, MOST_TEXT).decode(), node.plain()
    stated_kind = document.get("kind")
    kind = find_kind(document)
    if stated_kind is not None and kind is None:
        allowed = "Recommender, Shop or Environments"
        raise SpecError([Problem(format_path(file), "kind", repr(stated_kind), allowed, code="not-allowed")])
    changes = [] if kind is None else find_changes(document, kind, custom=lambda label: _is_custom(file, label))
    if twice := [change for change in changes if change.of == "key" and change.new in _get_map(node, change)]:
        raise SpecError([_make_conflict(change, node) for change in twice])
    new = _rewrite_text(text, changes)
    after, _ = parse_yaml(new, file=file)
    if after is None or after.plain() != apply_changes(document, changes):
        actual = "a notation that cannot be rewritten"
        raise SpecError([_make_manual_problem(change, node, actual) for change in changes])
    return Migration(file, new, [(_get_node(node, change).line, change) for change in changes])


def _is_custom(file: Path, label: str, depth: int = 0) -> bool:
    """Return whether the model of a file's search is a custom one, by the file and the files below it."""
    node, _ = read_document(file)
    document = None if node is None else node.plain()
    if not isinstance(document, dict) or depth > 8:
        return False
    if is_custom_model(document, label):
        return True
    extends = document.get("extends")
    below = [file.parent / extends] if isinstance(extends, str) else []
    if file.parent.name == "overlays":
        below.append(file.parent.parent.parent / f"{file.parent.parent.name}.yaml")
    return any(_is_custom(lower, label, depth + 1) for lower in below if is_file(lower))


def _rewrite_text(text: str, changes: Sequence[SpecChange]) -> str:
    root = compose_nodes(text)
    places = {}
    for change in changes:
        scalar = None if root is None else _find_scalar(root, change)
        if scalar is not None:
            # The scalar may include an anchor, a tag or quotes.
            begin = text.rfind(change.old, scalar.start_mark.index, scalar.end_mark.index)
            if begin >= 0:
                places[begin] = change
    for begin, change in sorted(places.items(), reverse=True):
        text = text[:begin] + change.new + text[begin + len(change.old) :]
    return text


def _find_scalar(root: yaml.Node, change: SpecChange) -> yaml.ScalarNode | None:
    """Find the scalar of a key or a value that changes."""
    node: yaml.Node = root
    for depth, part in enumerate(change.key):
        if isinstance(node, yaml.SequenceNode):
            node = node.value[int(part)]
            continue
        if not isinstance(node, yaml.MappingNode):
            return None
        pair = next(((name, value) for name, value in node.value if name.value == part), None)
        if pair is None:
            return None
        node = pair[0] if change.of == "key" and depth == len(change.key) - 1 else pair[1]
    return node if isinstance(node, yaml.ScalarNode) else None


def _rename_keys(node: YamlNode, key: Key, changes: dict[Key, SpecChange]) -> YamlNode:
    change = changes.get(key)
    if change is not None and change.of == "value":
        return replace(node, value=change.new)
    if isinstance(node.value, list):
        return replace(node, value=[_rename_keys(child, (*key, n), changes) for n, child in enumerate(node.value)])
    if not isinstance(node.value, dict):
        return node
    value = {}
    for name, child in node.value.items():
        below = changes.get((*key, name))
        value[below.new if below is not None and below.of == "key" else name] = _rename_keys(
            child, (*key, name), changes
        )
    return replace(node, value=value)


def _get_node(node: YamlNode, change: SpecChange) -> YamlNode:
    return node.at(change.key)


def _get_map(node: YamlNode, change: SpecChange) -> dict[str, YamlNode]:
    """Return the map that has the key of a change."""
    value = node.at(change.key[:-1]).value
    return value if isinstance(value, dict) else {}


def _make_problem(change: SpecChange, document: YamlNode) -> Problem:
    node = _get_node(document, change)
    hint = "" if node.file is None else f"Run `endcap spec migrate {format_path(node.file)}`, which rewrites the file."
    key = format_key(change.key)
    if change.key == ("apiVersion",):
        return Problem(node.place, key, repr(change.old), change.new, hint, code="older-version")
    if change.of == "value":
        actual = f"{change.old!r}, the name of a parameter in endcap/v1"
        return Problem(node.place, key, actual, repr(change.new), hint, code="renamed-key")
    actual, allowed = "a key of endcap/v1", f"{format_key(change.new_key)}, its name in endcap/v2"
    return Problem(node.place, key, actual, allowed, hint, code="renamed-key")


def _make_conflict(change: SpecChange, document: YamlNode) -> Problem:
    actual = f"the old name of {format_key(change.new_key)}, which is there too"
    return _make_manual_problem(change, document, actual)


def _make_manual_problem(change: SpecChange, document: YamlNode, actual: str) -> Problem:
    node = _get_node(document, change)
    allowed = f"{format_key(change.new_key)} alone: correct it by hand"
    return Problem(node.place, format_key(change.key), actual, allowed, code="renamed-key")
