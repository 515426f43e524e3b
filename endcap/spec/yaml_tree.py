"""Read YAML documents as trees whose nodes know their file and line."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from endcap.errors import Problem, ProblemCode
from endcap.safe_reading import read_bytes

Key = tuple[str | int, ...]
MOST_TEXT = 256 << 10
"""The most bytes of a spec file, and the most characters of a text that is read as YAML."""
MOST_VALUES = 10_000
"""The most keys, scalars, lists and maps of a document. The values of an alias count each time."""
DEEPEST = 40
"""The most lists and maps within each other."""
_ALLOWED = f"at most {MOST_TEXT:,} bytes, {MOST_VALUES:,} keys and values, nested at most {DEEPEST} deep"


@dataclass(frozen=True)
class YamlNode:
    """A value of a document and its place.

    Attributes
    ----------
    value
        A scalar, a list of nodes, or a map of nodes.
    file
        The file that has the value; None for a value of the command line.
    line
        The value's line, from 1.
    origin
        The name of the place, if there is no file.
    """

    value: Any
    file: Path | None
    line: int
    origin: str = ""

    @property
    def place(self) -> str:
        """``file:line`` for messages. The file is relative to the current folder, if it is in it."""
        return self.origin if self.file is None else f"{format_path(self.file)}:{self.line}"

    def at(self, key: Key) -> YamlNode:
        """Return the node at a key; if there is none, the deepest node above it."""
        node = self
        for part in key:
            in_list = isinstance(node.value, list) and isinstance(part, int) and 0 <= part < len(node.value)
            if not in_list and not (isinstance(node.value, dict) and part in node.value):
                break
            node = node.value[part]
        return node

    def written(self, key: Key) -> Key:
        """Convert a key of the validated document to a key of this one, which may have the short form of a map."""
        node, kept = self, []
        for place, part in enumerate(key):
            if isinstance(node.value, list) and isinstance(part, str):
                continue
            kept.append(part)
            below = node.at((part,))
            if below is node:
                return (*kept, *key[place + 1 :])
            node = below
        return tuple(kept)

    def plain(self) -> Any:
        """Return the value without places."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value


def format_path(path: Path) -> str:
    """Format a path for messages: relative to the current folder, if it is in it."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


def format_key(key: Key) -> str:
    """Format a key for messages: ``("gate", 0, "metric")`` becomes ``gate[0].metric``."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in key).removeprefix(".")


def merge_nodes(under: YamlNode, over: YamlNode) -> YamlNode:
    """Merge two documents. Maps are merged key by key, lists and scalars are replaced as a whole, null removes a
    key."""
    if not (isinstance(under.value, dict) and isinstance(over.value, dict)):
        return over
    value = dict(under.value)
    for key, node in over.value.items():
        if node.value is None:
            value.pop(key, None)
        else:
            value[key] = merge_nodes(value[key], node) if key in value else drop_nulls(node)
    return YamlNode(value, over.file, over.line, over.origin)


def drop_nulls(node: YamlNode) -> YamlNode:
    """Remove keys whose value is null, which means the same as leaving them out."""
    if isinstance(node.value, dict):
        kept = {key: drop_nulls(child) for key, child in node.value.items() if child.value is not None}
        return YamlNode(kept, node.file, node.line, node.origin)
    if isinstance(node.value, list):
        return YamlNode([drop_nulls(child) for child in node.value], node.file, node.line, node.origin)
    return node


class _TooLargeError(Exception):
    """The text is too long or nested too deeply, or its aliases stand for too many values. line: its place."""

    def __init__(self, actual: str, line: int) -> None:
        super().__init__(actual)
        self.actual, self.line = actual, line


_MANY = f"more than {MOST_VALUES:,} keys and values"


class _Loader(yaml.SafeLoader):
    """Reads scalars by YAML 1.2's core schema, as editors do: `1e-3` is a number, `no` and `12:30` are text."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}
    depth = composed = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Return the next value. Raises _TooLargeError if it is nested too deeply, or there are too many values."""
        self.composed += 1
        if self.depth > DEEPEST or self.composed > MOST_VALUES:
            event = self.peek_event()  # type: ignore[no-untyped-call]
            actual = f"values nested more than {DEEPEST} deep" if self.depth > DEEPEST else _MANY
            raise _TooLargeError(actual, event.start_mark.line + 1)
        self.depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


for _tag, _pattern, _first in (
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    ("int", r"^[-+]?[0-9]+$", list("-+0123456789")),
    ("float", r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$", list("-+.0123456789")),
    ("float", r"^(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$", list("-+.")),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), _first)

_SCALARS: dict[str, Callable[[str], Any]] = {
    "tag:yaml.org,2002:null": lambda text: None,
    "tag:yaml.org,2002:bool": lambda text: text.lower() == "true",
    "tag:yaml.org,2002:int": int,
    "tag:yaml.org,2002:float": lambda text: float(text.replace(".inf", "inf").replace(".nan", "nan")),
    "tag:yaml.org,2002:str": str,
}


@dataclass
class _Builder:
    """Converts PyYAML's nodes to ours. It collects problems, and leaves out wrong values."""

    file: Path | None
    origin: str
    problems: list[Problem] = field(default_factory=list)
    open_nodes: set[int] = field(default_factory=set)
    built: int = 0

    def build(self, node: yaml.Node, key: Key, line: int) -> YamlNode:
        if id(node) in self.open_nodes:
            self.wrong(line, key, "an alias to a value that holds it", "a value that ends", code="circle")
            return self.node(None, line)
        # Each alias is built again, so a few lines could stand for more values than fit into memory, at any depth.
        self.built += 1
        if self.built > MOST_VALUES or len(key) > DEEPEST:
            raise _TooLargeError(f"aliases that stand for more than {MOST_VALUES:,} values, or {DEEPEST} deep", line)
        self.open_nodes.add(id(node))
        value: Any
        if isinstance(node, yaml.MappingNode):
            value = self.build_map(node, key)
        elif isinstance(node, yaml.SequenceNode):
            value = [
                self.build(child, (*key, number), child.start_mark.line + 1) for number, child in enumerate(node.value)
            ]
        else:
            value = self.build_scalar(node, key, line)
        self.open_nodes.discard(id(node))
        return self.node(value, line)

    def build_map(self, node: yaml.MappingNode, key: Key) -> dict[str, YamlNode]:
        value: dict[str, YamlNode] = {}
        for name_node, child in node.value:
            line = name_node.start_mark.line + 1
            if not isinstance(name_node, yaml.ScalarNode):
                self.wrong(line, key, "a list or map as a key", "keys that are text", code="malformed")
                continue
            name = str(name_node.value)
            if name in value:
                actual = f"the key a second time (first in line {value[name].line})"
                self.wrong(line, (*key, name), actual, "it once", code="duplicate")
                continue
            value[name] = self.build(child, (*key, name), line)
        return value

    def build_scalar(self, node: yaml.Node, key: Key, line: int) -> Any:
        construct = _SCALARS.get(node.tag)
        try:
            if construct is not None:
                return construct(node.value)
        except ValueError:
            pass
        actual, allowed = f"{node.value!r} with the tag {node.tag}", "text, numbers, true and false, without tags"
        self.wrong(line, key, actual, allowed, code="malformed")
        return None

    def node(self, value: Any, line: int) -> YamlNode:
        return YamlNode(value, self.file, line, self.origin)

    def wrong(self, line: int, key: Key, actual: str, allowed: str, *, code: ProblemCode) -> None:
        self.problems.append(Problem(self.node(None, line).place, format_key(key), actual, allowed, code=code))


def compose_nodes(text: str) -> yaml.Node | None:
    """Parse a text to PyYAML's nodes, which know where each key and value begins and ends.

    Raises yaml.YAMLError, RecursionError or _TooLargeError; `parse_yaml` reports them as problems.
    """
    root: yaml.Node | None = yaml.compose(text, Loader=_Loader)
    return root


def parse_yaml(text: str, *, file: Path | None = None, origin: str = "") -> tuple[YamlNode | None, list[Problem]]:
    """Parse the text of one YAML document.

    Parameters
    ----------
    text
        The text.
    file
        The file that has it, for messages; None if there is none.
    origin
        The name of the place, if there is no file.

    Returns
    -------
    tuple
        The tree, which is None for an empty text, and the problems.
    """
    builder = _Builder(file, origin)
    try:
        if len(text) > MOST_TEXT:
            raise _TooLargeError(f"{len(text):,} characters", 1)
        root = compose_nodes(text)
        return (None if root is None else builder.build(root, (), root.start_mark.line + 1)), builder.problems
    except _TooLargeError as error:
        builder.wrong(error.line, (), error.actual, _ALLOWED, code="too-large")
        return None, builder.problems
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        what = " ".join(
            str(part) for part in (getattr(error, "context", None), getattr(error, "problem", None)) if part
        )
        line, actual = mark.line + 1 if mark else 1, f"no valid YAML ({what or error})"
        builder.wrong(line, (), actual, "one YAML document", code="malformed")
        return None, builder.problems


def read_document(file: Path) -> tuple[YamlNode | None, list[Problem]]:
    """Read the document of a file, which must be a map. Returns it with its problems; None if it cannot be read."""
    try:
        text = read_bytes(file, MOST_TEXT).decode().replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError:
        return None, [
            Problem(format_path(file), "", "bytes that are not UTF-8", "a YAML file in UTF-8", code="unreadable")
        ]
    except FileNotFoundError:
        return None, [Problem(format_path(file), "", "no such file", _neighbours(file), code="not-found")]
    except ValueError:
        actual = f"more than {MOST_TEXT:,} bytes"
        return None, [Problem(format_path(file), "", actual, _ALLOWED, code="too-large")]
    except OSError as error:
        return None, [Problem(format_path(file), "", str(error.strerror), "a file that can be read", code="unreadable")]
    node, problems = parse_yaml(text, file=file)
    if not problems and (node is None or not isinstance(node.value, dict)):
        actual = "an empty file" if node is None or node.value is None else "no map of keys"
        allowed = "keys with values, beginning with apiVersion and kind"
        problems = [Problem(format_path(file), "", actual, allowed, code="malformed")]
    return (node if not problems or (node is not None and isinstance(node.value, dict)) else None), problems


def _neighbours(file: Path) -> str:
    return f"the files there: {join_words(names)}" if (names := list_yaml_names(file.parent)) else "a file that exists"


def list_yaml_names(folder: Path) -> list[str]:
    """List the names of a folder's YAML files, without the suffix."""
    return sorted(path.stem for path in folder.glob("*.yaml")) if folder.is_dir() else []


def join_words(words: Sequence[object]) -> str:
    """Join words by commas."""
    return ", ".join(str(word) for word in words)
