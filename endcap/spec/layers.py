"""Merge the layers of a spec: the file that it extends, the file, its overlay, and --set. Later layers win."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from endcap.errors import Problem, ProblemCode
from endcap.safe_reading import is_file
from endcap.spec.migration import migrate_node
from endcap.spec.yaml_tree import (
    Key,
    YamlNode,
    drop_nulls,
    format_key,
    join_words,
    list_yaml_names,
    merge_nodes,
    parse_yaml,
    read_document,
)
from endcap.spec_renames import API_VERSION


@dataclass
class Layers:
    """Reads and merges the files of one spec.

    Attributes
    ----------
    kind
        The kind of spec that the files should have.
    files
        The files that were read, in the order of merging.
    problems
        What is wrong in them.
    right_kind
        False if a file has another kind or a newer version, so that checks of its keys make no sense.
    lacks
        True if a lower file could not be read, so that its keys are not known.
    """

    kind: Literal["Recommender", "Shop"]
    files: list[Path] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    right_kind: bool = True
    lacks: bool = False

    def read(self, file: Path, env: str | None, overlays: Sequence[Path] = ()) -> YamlNode | None:
        """Read a file with what it extends, and merge its overlays over it.

        Parameters
        ----------
        file
            The spec's file.
        env
            The environment whose overlay is merged, if there is one; None: no overlay.
        overlays
            More overlays to merge.

        Returns
        -------
        YamlNode or None
            The merged document; None if nothing could be read.
        """
        node = self._with_extends(file, ())
        self.lacks = self.lacks or node is None
        overlay = locate_overlay(file, env) if env else None
        for upper in [*([overlay] if overlay is not None and is_file(overlay) else []), *overlays]:
            over = self._with_extends(upper, ())
            if over is not None:
                node = over if node is None else merge_nodes(*_align_forms(node, over))
        return None if node is None else drop_nulls(node)

    def _with_extends(self, file: Path, below: tuple[Path, ...]) -> YamlNode | None:
        node, problems = read_document(file)
        self.problems += problems
        if node is None:
            return None
        self.files.append(file)
        self._check_kind(node)
        node, outdated = migrate_node(node, self.kind, is_part=True)
        self.problems += outdated
        extends = node.value.pop("extends", None)
        if extends is None or extends.value is None:
            return node
        if not isinstance(extends.value, str):
            self.lacks = True
            allowed = "the path of one YAML file, relative to this one"
            self._wrong(extends, "extends", repr(extends.plain()), allowed, code="wrong-type")
            return node
        base = make_absolute(file.parent / extends.value)
        chain = (*below, file)
        if base in chain:
            self.lacks = True
            circle = " -> ".join(path.name for path in (*chain[chain.index(base) :], base))
            self._wrong(
                extends, "extends", f"a circle: {circle}", "a file that does not extend this one", code="circle"
            )
            return node
        if not is_file(base):
            self.lacks = True
            neighbours = (
                join_words([f"{name}.yaml" for name in list_yaml_names(base.parent)])
                or f"no YAML file in {base.parent}"
            )
            actual, allowed = f"{extends.value!r}, which does not exist", f"a file that does ({neighbours})"
            self._wrong(extends, "extends", actual, allowed, code="not-found")
            return node
        under = self._with_extends(base, chain)
        # A file is listed after those that it extends: in the order in which they are merged.
        self.files.remove(file)
        self.files.append(file)
        self.lacks = self.lacks or under is None
        return node if under is None else merge_nodes(*_align_forms(under, node))

    def _check_kind(self, node: YamlNode) -> None:
        kind = node.value.get("kind")
        if kind is not None and kind.value != self.kind:
            descriptions = {
                "Shop": "a shop's file",
                "Recommender": "a recommender's file",
                "Environments": "the file of environments",
            }
            name = descriptions.get(kind.value) if isinstance(kind.value, str) else None
            hint = f"This is {name}; {descriptions[self.kind]} is needed here." if name else ""
            self._wrong(kind, "kind", repr(kind.plain()), self.kind, hint, code="not-allowed")
            self.right_kind = self.right_kind and name is None
        version = node.value.get("apiVersion")
        if version is not None and _is_newer(version.value):
            hint = "The file was written for a newer Endcap. Install that release."
            self._wrong(version, "apiVersion", repr(version.value), API_VERSION, hint, code="newer-version")
            self.right_kind = False

    def _wrong(self, node: YamlNode, key: str, actual: str, allowed: str, hint: str = "", *, code: ProblemCode) -> None:
        self.problems.append(Problem(node.place, key, actual, allowed, hint, code=code))


_SHORT = {"gate": "conditions"}
"""The keys whose map may be written as a list, and the key of the map that the list stands for."""


def _align_forms(under: YamlNode, over: YamlNode) -> tuple[YamlNode, YamlNode]:
    """Write out short forms, so that two documents can be merged: a list in one and a map in the other become maps."""
    for key in _SHORT:
        here, upper = under.at((key,)), over.at((key,))
        if isinstance(here.value, list) and isinstance(upper.value, dict) and upper is not over:
            under = _write_out(under, key)
        elif isinstance(upper.value, list) and isinstance(here.value, dict) and here is not under:
            over = _write_out(over, key)
    return under, over


def _write_out(document: YamlNode, key: str) -> YamlNode:
    """Replace the list under a key by the map that it stands for."""
    node = document.value[key]
    whole = replace(node, value={_SHORT[key]: node})
    return replace(document, value={**document.value, key: whole})


def _is_newer(version: object) -> bool:
    number = re.fullmatch(r"endcap/v([0-9]+)", version) if isinstance(version, str) else None
    return number is not None and int(number[1]) > int(API_VERSION.removeprefix("endcap/v"))


def make_absolute(path: Path | str) -> Path:
    """Make a path absolute, without `..`. Links stay."""
    return Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow links


def locate_overlay(file: Path, env: str) -> Path:
    """Return the path of a spec's overlay for an environment: `<stem>/overlays/<env>.yaml` beside the spec."""
    return file.parent / file.stem / "overlays" / f"{env}.yaml"


def list_overlay_names(files: Iterable[Path]) -> list[str]:
    """List the environments for which any of these specs has an overlay."""
    return sorted({name for file in files for name in list_yaml_names(file.parent / file.stem / "overlays")})


@dataclass(frozen=True)
class Setting:
    """A key and its new value, such as of one `--set key.path=value`.

    Attributes
    ----------
    key
        The key in the document.
    value
        The value; null removes the key.
    place
        Where the setting is written, for messages.
    """

    key: Key
    value: YamlNode
    place: str


def parse_key(text: str) -> Key:
    """Parse a key. `gate.0.min` and `gate[0].min` are the same; the key of an empty text is empty."""
    parts = [part for part in re.split(r"[.\[\]]+", text.strip()) if part]
    return tuple(int(part) if part.isdecimal() else part for part in parts)


def parse_settings(sets: Sequence[str], problems: list[Problem]) -> list[Setting]:
    """Parse `--set` arguments.

    Parameters
    ----------
    sets
        The arguments, such as ``model.width=64``.
    problems
        A list to which wrong arguments are added.

    Returns
    -------
    list of Setting
        The right arguments.
    """
    parsed = []
    for argument in sets:
        name, equals, text = argument.partition("=")
        key, place = parse_key(name), f"--set {argument}"
        if not equals or not key:
            allowed = "key.path=value, such as model.width=64"
            problems.append(Problem(place, "", repr(argument), allowed, code="malformed"))
            continue
        value, wrong = parse_yaml(text, origin=place)
        problems += wrong
        if not wrong:
            parsed.append(Setting(key, drop_nulls(value or YamlNode(None, None, 0, place)), place))
    return parsed


def apply_setting(node: YamlNode, setting: Setting, problems: list[Problem]) -> YamlNode:
    """Replace the whole value at a setting's key; null removes it. A key that cannot be is added to `problems`."""
    try:
        return _replace_value(*_locate_key(node, setting.key), 0, setting.value)
    except LookupError as error:
        actual, allowed = error.args
        problems.append(Problem(setting.place, format_key(setting.key), actual, allowed, code="unknown-key"))
        return node


def _locate_key(node: YamlNode, key: Key) -> tuple[YamlNode, Key]:
    """Make a document and a key agree: both may have the short form of a section or the long one."""
    first, *below = key
    short = _SHORT.get(str(first)) if below else None
    if short is None:
        return node, key
    section = node.at((first,))
    if isinstance(section.value, list) and isinstance(below[0], str):
        return _write_out(node, str(first)), key
    if isinstance(section.value, dict) and section is not node and isinstance(below[0], int):
        return node, (first, short, *below)
    return node, key


def _replace_value(node: YamlNode, key: Key, depth: int, value: YamlNode) -> YamlNode:
    if depth == len(key):
        return value
    part, here = key[depth], format_key(key[:depth]) or "the file"
    children: dict[str, YamlNode] | list[YamlNode]
    if isinstance(node.value, list):
        if not isinstance(part, int) or part >= len(node.value):
            last = len(node.value) - 1
            raise LookupError(
                f"no place {part} in the list {here}", f"0 to {last}" if node.value else "none: it is empty"
            )
        children = list(node.value)
        children[part] = _replace_value(children[part], key, depth + 1, value)
    elif isinstance(node.value, dict) or node.value is None:
        if isinstance(part, int) and node.value is None:
            raise LookupError(f"no list {here} in the file", f"the whole list, such as --set '{here}=[...]'")
        children = dict(node.value or {})
        child = _replace_value(children.get(str(part), YamlNode(None, None, 0, value.origin)), key, depth + 1, value)
        if child.value is None:
            children.pop(str(part), None)
        else:
            children[str(part)] = child
    else:
        raise LookupError(f"{here} is {node.value!r}", f"keys below a map; {here} holds one value")
    return YamlNode(children, node.file, node.line, node.origin)
