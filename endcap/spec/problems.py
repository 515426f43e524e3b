"""Convert pydantic's errors to problems for people: the key, the wrong value, what is allowed, and a similar word."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from typing import Any, Literal, TypeVar, get_args, get_origin

import annotated_types
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from endcap.errors import Problem, ProblemCode
from endcap.spec.base import Allowed, Mistake, prefix_keys, suggest
from endcap.spec.partial_specs import build_partial, find_nested_mistakes
from endcap.spec.shape import Shape
from endcap.spec.yaml_tree import Key, YamlNode, format_key, join_words

EXTENDS = "extends"
KEY = "[key]"
"""Pydantic's mark for a wrong key of a map."""
Finding = tuple[Key, Problem]
"""The key of a problem in its document, and the problem."""
_Model = TypeVar("_Model", bound=BaseModel)


def validate_document(document: YamlNode, model: type[_Model]) -> tuple[_Model, list[Finding]]:
    """Validate a document.

    Parameters
    ----------
    document
        The document.
    model
        The spec model that it should have.

    Returns
    -------
    tuple
        The model, in which wrong values are UNKNOWN, and the problems.
    """
    plain = document.plain()
    try:
        return model.model_validate(plain), []
    except ValidationError as error:
        part: _Model = build_partial(Shape(model), plain)
        return part, _collect_findings(error, part, document, model)


def list_problems(document: YamlNode, model: type[BaseModel]) -> list[Problem]:
    """List every problem of a document, in the order of its lines."""
    return sort_by_line(document, validate_document(document, model)[1])


def sort_by_line(document: YamlNode, findings: Iterable[Finding]) -> list[Problem]:
    """Sort problems by the lines of their values."""
    return [problem for _, problem in sorted(findings, key=lambda finding: _get_position(document.at(finding[0])))]


def _collect_findings(error: ValidationError, part: Any, document: YamlNode, model: type[BaseModel]) -> list[Finding]:
    """Collect the problems of an error: at most one for each value, and each mistake of a check."""
    complaints: dict[Key, Problem] = {}
    of_checks: dict[Finding, None] = {}
    for detail in error.errors(include_url=False):
        key, parent, shape = _follow(detail["loc"], Shape(model))
        key = document.written(key)
        member = None if shape is None or shape.discriminator else shape.member_for(document.at(key).plain())
        if member is not None and member.model is not None:
            # Pydantic reports errors of all members of a union. Only those of the intended member count.
            complaints |= dict(
                move_below(finding, key) for finding in validate_document(document.at(key), member.model)[1]
            )
        elif detail["type"] == "mistakes":
            of_checks |= dict.fromkeys(
                convert_mistake(mistake, document) for mistake in prefix_keys(key, detail["ctx"]["mistakes"])
            )
        else:
            at, problem = _make_problem(detail, key, parent, shape, document)
            complaints.setdefault(at, problem)
    of_checks |= dict.fromkeys(convert_mistake(mistake, document) for mistake in find_nested_mistakes(part))
    return [*complaints.items(), *(finding for finding in of_checks if finding not in complaints.items())]


def move_below(finding: Finding, key: Key) -> Finding:
    """Make the key of a problem relative to the whole document. key: the key of the part that has the problem."""
    at, problem = finding
    return (*key, *at), replace(problem, key=format_key((*key, *at)))


def _get_position(node: YamlNode) -> tuple[str, int]:
    return str(node.file), node.line


def _follow(loc: tuple[str | int, ...], shape: Shape) -> tuple[Key, Shape, Shape | None]:
    """Convert pydantic's location, which also names members of unions, to a key of the document.

    Returns the key, its parent's shape, and its own shape, which is None for an unknown key.
    """
    key: Key = ()
    parent = shape
    for place, part in enumerate(loc):
        if shape.discriminator is not None and shape.members:
            tagged = {member.tag(shape.discriminator): member for member in shape.members}
            shape = tagged[str(part)]
        elif shape.members:
            return key, parent, shape  # alternatives of scalars: the part names one of them
        elif shape.model is not None:
            key, parent = (*key, part), shape
            field = shape.keys.get(str(part))
            if field is None:
                return key, parent, None
            shape = Shape.of_field(field)
        elif get_origin(shape.annotation) is list:
            key, parent = (*key, part), shape
            shape = Shape.of(get_args(shape.annotation)[0])
        elif get_origin(shape.annotation) is dict:
            of_key, of_value = get_args(shape.annotation)
            key, parent, shape = (*key, part), shape, Shape.of(of_key if loc[place + 1 :] == (KEY,) else of_value)
        else:
            return key, parent, shape
    return key, parent, shape


def _make_problem(detail: ErrorDetails, key: Key, parent: Shape, shape: Shape | None, document: YamlNode) -> Finding:
    kind, place = detail["type"], document.at(key).place
    if shape is None:
        assert parent.model is not None
        layered = "apiVersion" in parent.keys and getattr(parent.model, "layered", False)
        keys = [*parent.keys, *([EXTENDS] if layered else [])]
        hint = suggest(key[-1], keys)
        allowed = join_words(keys) or "no key"
        return key, Problem(place, format_key(key), "an unknown key", allowed, hint, code="unknown-key")
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        assert shape.discriminator is not None
        key = (*key, shape.discriminator)
        tags = [member.tag(shape.discriminator) for member in shape.members]
        node = document.at(key)
        tag = detail.get("ctx", {}).get("tag")
        absent = kind == "union_tag_not_found" and _is_absent(document, key)
        actual, hint = "nothing" if absent else quote_value(node.plain()), suggest(tag, tags)
        code: ProblemCode = "missing" if absent else "not-allowed"
        return key, Problem(node.place, format_key(key), actual, join_words(tags), hint, code=code)
    if kind == "missing":
        hint = "This key is required."
        return key, Problem(place, format_key(key), "nothing", describe_shape(shape), hint, code="missing")
    value = key[-1] if detail["loc"][-1] == KEY else document.at(key).plain()
    allowed = detail["msg"] if kind == "value_error" and shape.model is not None else describe_shape(shape)
    wrong: ProblemCode = "wrong-type" if kind.endswith("_type") else "not-allowed"
    return key, Problem(place, format_key(key), quote_value(value), allowed, _make_hint(value, shape), code=wrong)


def convert_mistake(mistake: Mistake, document: YamlNode) -> Finding:
    """Convert a check's mistake to a problem of the document."""
    at = document.written(mistake.at)
    place = document.at(at).place
    return at, Problem(place, format_key(at), mistake.actual, mistake.allowed, mistake.hint, code=mistake.code)


def _is_absent(document: YamlNode, key: Key) -> bool:
    parent = document.at(key[:-1])
    return not isinstance(parent.value, dict) or key[-1] not in parent.value


def _make_hint(value: Any, shape: Shape) -> str:
    words = [word for member in [shape, *shape.members] for word in _list_literals(member)]
    if isinstance(value, str) and words:
        return suggest(value, words)
    if isinstance(value, bool | int | float) and shape.annotation is str:
        return f"Write it in quotes to make it text: '{value}'."
    if isinstance(value, str) and shape.annotation is bool:
        return "Write it as true or false, without quotes."
    return ""


def _list_literals(shape: Shape) -> list[str]:
    return [str(value) for value in get_args(shape.annotation)] if get_origin(shape.annotation) is Literal else []


def describe_shape(shape: Shape) -> str:
    """Say in words which values a shape allows."""
    for annotation in shape.metadata:
        if isinstance(annotation, Allowed):
            return annotation.words
    if literals := _list_literals(shape):
        return join_words(literals)
    if shape.members:
        return _describe_members(shape)
    if shape.model is not None:
        return f"a map with the keys {join_words(list(shape.keys))}"
    if get_origin(shape.annotation) is list:
        least = next((limit.min_length for limit in shape.metadata if isinstance(limit, annotated_types.MinLen)), 0)
        element = describe_shape(Shape.of(get_args(shape.annotation)[0]))
        return f"a list{' of at least one' if least else ''}, each {element}"
    if get_origin(shape.annotation) is dict:
        return f"a map, each value {describe_shape(Shape.of(get_args(shape.annotation)[1]))}"
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text", timedelta: "a duration"}
    return words.get(shape.annotation, "a value") + _describe_limits(shape)


def _describe_members(shape: Shape) -> str:
    if shape.discriminator is not None:
        tags = [member.tag(shape.discriminator) for member in shape.members]
        return f"a map whose key {shape.discriminator!r} is one of {join_words(tags)}"
    return " or ".join(describe_shape(member) for member in shape.members)


def _describe_limits(shape: Shape) -> str:
    words = []
    for annotation in shape.metadata:
        match annotation:
            case annotated_types.Ge(ge=limit):
                words.append(f"at least {limit}")
            case annotated_types.Gt(gt=limit):
                words.append(f"more than {limit}")
            case annotated_types.Le(le=limit):
                words.append(f"at most {limit}")
            case annotated_types.Lt(lt=limit):
                words.append(f"less than {limit}")
            case annotated_types.MinLen(min_length=limit):
                words.append(f"at least {limit} character{'s' if limit > 1 else ''}")
            case annotated_types.MaxLen(max_length=limit):
                words.append(f"at most {limit} character{'s' if limit > 1 else ''}")
    return f", {' and '.join(words)}" if words else ""


def quote_value(value: Any) -> str:
    """Return a value as YAML could have it, cut if it is long."""
    text = json.dumps(value, ensure_ascii=False, default=str) if not isinstance(value, str) else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
