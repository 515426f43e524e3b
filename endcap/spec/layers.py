"""One document out of several: extends, the file, its overlay for an environment, then --set; the later one wins."""

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
    """What reading a spec gathers: the files that it is made of, and what is wrong."""

    kind: Literal["Recommender", "Shop"]
    files: list[Path] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    right_kind: bool = True
    """False: some file is of another kind or a newer version, so that it makes no sense to check the keys."""
    lacks: bool = False
    """A file below others could not be read, so that nobody knows which keys it has."""

    def read(self, file: Path, env: str | None, overlays: Sequence[Path] = ()) -> YamlNode | None:
        """The file over what it extends, under its overlay where it has one, and under more overlays.

        None where nothing could be read.
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
            what = descriptions.get(kind.value) if isinstance(kind.value, str) else None
            hint = f"This is {what}; here {descriptions[self.kind]} is wanted." if what else ""
            self._wrong(kind, "kind", repr(kind.plain()), self.kind, hint, code="not-allowed")
            self.right_kind = self.right_kind and what is None
        version = node.value.get("apiVersion")
        if version is not None and _is_newer(version.value):
            hint = "It was written for a newer Endcap: install that one here."
            self._wrong(version, "apiVersion", repr(version.value), API_VERSION, hint, code="newer-version")
            self.right_kind = False

    def _wrong(self, node: YamlNode, key: str, actual: str, allowed: str, hint: str = "", *, code: ProblemCode) -> None:
        self.problems.append(Problem(node.place, key, actual, allowed, hint, code=code))


_SHORT = {"gate": "conditions"}
"""Keys of maps that a list may stand for, and the map's key that the list is the value of."""


def _align_forms(under: YamlNode, over: YamlNode) -> tuple[YamlNode, YamlNode]:
    """Two documents in which what is a list in one and a map in the other is a map in both, so that they merge."""
    for key in _SHORT:
        here, upper = under.at((key,)), over.at((key,))
        if isinstance(here.value, list) and isinstance(upper.value, dict) and upper is not over:
            under = _write_out(under, key)
        elif isinstance(upper.value, list) and isinstance(here.value, dict) and here is not under:
            over = _write_out(over, key)
    return under, over


def _write_out(document: YamlNode, key: str) -> YamlNode:
    """The document with a list under this key as the map that it stands for."""
    node = document.value[key]
    whole = replace(node, value={_SHORT[key]: node})
    return replace(document, value={**document.value, key: whole})


def _is_newer(version: object) -> bool:
    number = re.fullmatch(r"endcap/v([0-9]+)", version) if isinstance(version, str) else None
    return number is not None and int(number[1]) > int(API_VERSION.removeprefix("endcap/v"))


def make_absolute(path: Path | str) -> Path:
    """Absolute and without `..`; links stay as they are."""
    return Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow links


def locate_overlay(file: Path, env: str) -> Path:
    """Where a spec's overlay for an environment lies: `<stem>/overlays/<env>.yaml` beside it."""
    return file.parent / file.stem / "overlays" / f"{env}.yaml"


def list_overlay_names(files: Iterable[Path]) -> list[str]:
    """The environments that any of these specs has an overlay for."""
    return sorted({name for file in files for name in list_yaml_names(file.parent / file.stem / "overlays")})


@dataclass(frozen=True)
class Setting:
    """One `--set key.path=value`."""

    key: Key
    text: str
    argument: str

    @property
    def origin(self) -> str:
        return f"--set {self.argument}"


def parse_settings(sets: Sequence[str], problems: list[Problem]) -> list[Setting]:
    """`--set` arguments taken apart: `gate.0.min=0.1` and `gate[0].min=0.1` are the same."""
    parsed = []
    for argument in sets:
        name, equals, text = argument.partition("=")
        parts = [part for part in re.split(r"[.\[\]]+", name.strip()) if part]
        if not equals or not parts:
            allowed = "key.path=value, such as model.width=64"
            problems.append(Problem(f"--set {argument}", "", repr(argument), allowed, code="malformed"))
            continue
        parsed.append(Setting(tuple(int(part) if part.isdecimal() else part for part in parts), text, argument))
    return parsed


def apply_setting(node: YamlNode, setting: Setting, problems: list[Problem]) -> YamlNode:
    """The document with the value at the setting's key replaced, whole; null removes it."""
    value, wrong = parse_yaml(setting.text, origin=setting.origin)
    if wrong:
        problems += wrong
        return node
    value = value or YamlNode(None, None, 0, setting.origin)
    try:
        return _replace_value(*_locate_key(node, setting.key), 0, drop_nulls(value))
    except LookupError as error:
        actual, allowed = error.args
        problems.append(Problem(setting.origin, format_key(setting.key), actual, allowed, code="unknown-key"))
        return node


def _locate_key(node: YamlNode, key: Key) -> tuple[YamlNode, Key]:
    """The document and the key in it, whichever of its forms a section has, and whichever the key is of."""
    first, *rest = key
    short = _SHORT.get(str(first)) if rest else None
    if short is None:
        return node, key
    section = node.at((first,))
    if isinstance(section.value, list) and isinstance(rest[0], str):
        return _write_out(node, str(first)), key
    if isinstance(section.value, dict) and section is not node and isinstance(rest[0], int):
        return node, (first, short, *rest)
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
