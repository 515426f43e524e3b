"""A recommender for each of several values, such as categories, shops or countries.

`home.yaml#shoes` is the recommender of the value `shoes` of home.yaml's `for_each`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import Field

from endcap.errors import Problem
from endcap.safe_reading import is_file
from endcap.spec.base import Mistake, Name, Strict, check, find_repeats, suggest
from endcap.spec.layers import Setting, parse_key
from endcap.spec.problems import move_below, sort_by_line, validate_document
from endcap.spec.variables import expand
from endcap.spec.yaml_tree import YamlNode, join_words

MARK = "#"
EACH = "${each}"
FOR_EACH = "for_each"
_IF = {"true": True, "false": False}


class Entry(Strict):
    """One value of `for_each`, with settings of its own."""

    set: dict[str, Any] = {}
    """Keys to set for this value alone, as in `for_each.set`."""
    if_: bool | str = Field(default=True, alias="if")
    """`false` leaves this value out. A text such as `${WITH_HATS:-false}` takes it from an environment variable."""


class ForEach(Strict):
    """A recommender for each value, with its own name, versions, schedule and rollouts."""

    values: list[Name] | dict[Name, Entry]
    """The values: a list, or a map in which each may have settings of its own. An overlay may add a value to a map, and
    removes one by null."""
    set: dict[str, Any] = {}
    """Keys to set for each, as `--set` does, such as `shop.window: 30d`. `${each}` in a value is the value of
    `for_each`. Left out: `name` is `<name>-${each}`. If a key of the shop is set, the shop is one of its own, and its
    name is `<name>-${each}` too."""

    @check
    def _values_differ(self) -> Iterator[Mistake]:
        if isinstance(self.values, list):
            for number in find_repeats(self.values):
                actual = f"{self.values[number]!r} again"
                yield Mistake(("values", number), actual, "each value once", code="duplicate")
        if not self.values:
            yield Mistake(("values",), "no value", "at least one", code="missing")


@dataclass(frozen=True)
class ValueChoice:
    """The recommender of one value.

    Attributes
    ----------
    document
        The document without `for_each`.
    value
        The value; empty if none was chosen.
    settings
        What `for_each` sets, in its order: for all, then for this value.
    """

    document: YamlNode
    value: str = ""
    settings: Sequence[Setting] = ()


def split_path(path: str | Path) -> tuple[str, str]:
    """Split ``home.yaml#shoes`` into the file and the value; the value is empty if there is none.

    A file whose name has the mark itself is taken as it is.
    """
    text = str(path)
    file, mark, value = text.rpartition(MARK)
    return (file, value) if mark and "/" not in value and not is_file(Path(text)) else (text, "")


def list_values(document: YamlNode, problems: list[Problem]) -> list[str] | None:
    """List the values of a document's `for_each` whose `if` holds; None if it has no `for_each`, or a wrong one.

    Parameters
    ----------
    document
        The merged document of a recommender.
    problems
        A list to which wrong conditions are added.
    """
    node: YamlNode | None = document.value.get(FOR_EACH)
    if node is None or validate_document(node, ForEach)[1]:
        return None
    values = node.value["values"].value
    if isinstance(values, list):
        return [value.value for value in values]
    return [value for value, entry in values.items() if _holds(entry, value, problems)]


def choose(document: YamlNode, value: str, problems: list[Problem]) -> ValueChoice:
    """Choose the recommender of a value.

    Parameters
    ----------
    document
        The merged document of a recommender.
    value
        The value; empty: none, which suits a document without `for_each`.
    problems
        A list to which a wrong value and the mistakes of `for_each` are added.

    Returns
    -------
    ValueChoice
        Without settings if the value or `for_each` is wrong.
    """
    node: YamlNode | None = document.value.get(FOR_EACH)
    if node is None:
        if value:
            allowed = f"the path of the file without {MARK}{value}: the file has no {FOR_EACH}"
            problems.append(Problem(document.place, FOR_EACH, repr(value), allowed, code="unknown-name"))
        return ValueChoice(document)
    rest = replace(document, value={key: child for key, child in document.value.items() if key != FOR_EACH})
    if findings := validate_document(node, ForEach)[1]:
        problems += sort_by_line(document, [move_below(finding, (FOR_EACH,)) for finding in findings])
        return ValueChoice(rest)
    names = list_values(document, problems) or []
    if value not in names:
        actual = f"{value!r} behind the path" if value else "no value behind the path"
        allowed, hint = explain_choice(names), suggest(value, names)
        problems.append(Problem(node.place, FOR_EACH, actual, allowed, hint, code="unknown-name"))
        return ValueChoice(rest)
    values = node.value["values"].value
    nodes = [node, values[value]] if isinstance(values, dict) else [node]
    pairs = [pair for part in nodes if "set" in part.value for pair in part.value["set"].value.items()]
    settings = [Setting(parse_key(key), _fill(child, value), child.place) for key, child in pairs]
    name = document.value.get("name")
    if name is not None and not any(setting.key == ("name",) for setting in settings):
        settings.insert(0, name_after(name, value))
    return ValueChoice(rest, value, settings)


def explain_choice(names: Sequence[str]) -> str:
    """Say how a value is chosen, for messages."""
    if not names:
        return "none: each `if` is false"
    return f"{join_words(names)}, behind the path of the file, such as home.yaml{MARK}{names[0]}"


def name_after(name: YamlNode, value: str) -> Setting:
    """Make the setting of a name that ends in the value."""
    return Setting(("name",), replace(name, value=f"{name.value}-{value}"), name.place)


def _holds(entry: YamlNode, value: str, problems: list[Problem]) -> bool:
    node: YamlNode | None = entry.value.get("if")
    if node is None or isinstance(node.value, bool):
        return node is None or bool(node.value)
    key = f"{FOR_EACH}.values.{value}.if"
    known = len(problems)
    text = expand(node, key, problems)
    if text not in _IF and len(problems) == known:
        problems.append(Problem(node.place, key, repr(text), "true or false", code="not-allowed"))
    return _IF.get(text, True)


def _fill(node: YamlNode, value: str) -> YamlNode:
    """Replace `${each}` in all texts of a node."""
    if isinstance(node.value, dict):
        return replace(node, value={key: _fill(child, value) for key, child in node.value.items()})
    if isinstance(node.value, list):
        return replace(node, value=[_fill(child, value) for child in node.value])
    return replace(node, value=node.value.replace(EACH, value)) if isinstance(node.value, str) else node
