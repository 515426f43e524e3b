"""Pydantic's errors as problems in a user's words: key, what was found, what is allowed, the nearest word."""

from __future__ import annotations

import json
import types
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from endcap.errors import Problem, ProblemCode
from endcap.spec.base import Allowed, Mistake, suggest
from endcap.spec.nodes import Key, Node, listed, spelled

EXTENDS = "extends"
KEY = "[key]"
"""Where pydantic says that it is not a map's value but its key that is wrong."""


@dataclass(frozen=True)
class Shape:
    """A field's type, taken apart: what pydantic's annotations say of it."""

    annotation: Any
    metadata: tuple[Any, ...] = ()
    discriminator: str | None = None

    @classmethod
    def of(cls, annotation: Any, metadata: Iterable[Any] = (), discriminator: Any = None) -> Shape:
        metadata = list(metadata)
        while get_origin(annotation) is Annotated:
            annotation, *more = get_args(annotation)
            for one in more:
                metadata += one.metadata if isinstance(one, FieldInfo) else [one]
                discriminator = (one.discriminator if isinstance(one, FieldInfo) else None) or discriminator
        members = [member for member in get_args(annotation) if member is not types.NoneType]
        if is_union(annotation) and len(members) == 1:
            return cls.of(members[0], metadata, discriminator)
        return cls(annotation, tuple(metadata), discriminator)

    @classmethod
    def of_field(cls, field: FieldInfo) -> Shape:
        return cls.of(field.annotation, field.metadata, field.discriminator)

    @property
    def members(self) -> list[Shape]:
        """The alternatives of a union, without None."""
        if not is_union(self.annotation):
            return []
        return [Shape.of(member) for member in get_args(self.annotation) if member is not types.NoneType]

    @property
    def model(self) -> type[BaseModel] | None:
        is_model = isinstance(self.annotation, type) and issubclass(self.annotation, BaseModel)
        return self.annotation if is_model else None

    @property
    def keys(self) -> dict[str, FieldInfo]:
        """A model's fields by the keys that a document gives them by."""
        assert self.model is not None
        return {field.alias or name: field for name, field in self.model.model_fields.items()}

    def tag(self, discriminator: str) -> str:
        """A model's value of the key that tells it from its union's other members."""
        assert self.model is not None
        return str(get_args(self.model.model_fields[discriminator].annotation)[0])


def is_union(annotation: Any) -> bool:
    return get_origin(annotation) in (Union, types.UnionType)


def problems_of(error: ValidationError, document: Node, model: type[BaseModel]) -> list[Problem]:
    """Every problem of a document, in the order of its lines; several complaints about one value become one."""
    found: dict[Key, Problem] = {}
    for detail in error.errors(include_url=False):
        key, parent, shape = _follow(detail["loc"], Shape(model))
        for problem_key, problem in _problems(detail, key, parent, shape, document):
            found.setdefault(problem_key, problem)
    return [found[key] for key in sorted(found, key=lambda key: _position(document.at(key)))]


def _position(node: Node) -> tuple[str, int]:
    return str(node.file), node.line


def _follow(loc: tuple[str | int, ...], shape: Shape) -> tuple[Key, Shape, Shape | None]:
    """From pydantic's location, which names union members too, to the user's key, its parent's shape and its own.

    The own shape is None for a key that its parent does not know.
    """
    key: Key = ()
    parent = shape
    for part in loc:
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
            key, parent, shape = (*key, part), shape, Shape.of(of_key if loc[-1] == KEY else of_value)
        else:
            return key, parent, shape
    return key, parent, shape


def _problems(
    detail: ErrorDetails, key: Key, parent: Shape, shape: Shape | None, document: Node
) -> list[tuple[Key, Problem]]:
    kind, place = detail["type"], document.at(key).place
    if kind == "mistakes":
        return [_mistaken((*key, *one.at), one, document) for one in detail["ctx"]["mistakes"]]
    if shape is None:
        assert parent.model is not None
        layered = "apiVersion" in parent.keys and getattr(parent.model, "layered", False)
        known = [*parent.keys, *([EXTENDS] if layered else [])]
        hint = suggest(key[-1], known)
        allowed = listed(known) or "no key"
        return [(key, Problem(place, spelled(key), "an unknown key", allowed, hint, code="unknown-key"))]
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        assert shape.discriminator is not None
        key = (*key, shape.discriminator)
        tags = [member.tag(shape.discriminator) for member in shape.members]
        node = document.at(key)
        tag = detail.get("ctx", {}).get("tag")
        absent = kind == "union_tag_not_found" and _absent(document, key)
        found, hint = "nothing" if absent else show(node.plain()), suggest(tag, tags)
        code: ProblemCode = "missing" if absent else "not-allowed"
        return [(key, Problem(node.place, spelled(key), found, listed(tags), hint, code=code))]
    if kind == "missing":
        hint = "This key is required."
        return [(key, Problem(place, spelled(key), "nothing", describe(shape), hint, code="missing"))]
    value = key[-1] if detail["loc"][-1] == KEY else document.at(key).plain()
    allowed = detail["msg"] if kind == "value_error" and shape.model is not None else describe(shape)
    wrong: ProblemCode = "wrong-type" if kind.endswith("_type") else "not-allowed"
    return [(key, Problem(place, spelled(key), show(value), allowed, _hint(value, shape), code=wrong))]


def _mistaken(key: Key, one: Mistake, document: Node) -> tuple[Key, Problem]:
    return key, Problem(document.at(key).place, spelled(key), one.found, one.allowed, one.hint, code=one.code)


def _absent(document: Node, key: Key) -> bool:
    parent = document.at(key[:-1])
    return not isinstance(parent.value, dict) or key[-1] not in parent.value


def _hint(value: Any, shape: Shape) -> str:
    words = [word for one in [shape, *shape.members] for word in _literals(one)]
    if isinstance(value, str) and words:
        return suggest(value, words)
    if isinstance(value, bool | int | float) and shape.annotation is str:
        return f"Write it in quotes to make it text: '{value}'."
    if isinstance(value, str) and shape.annotation is bool:
        return "Write it as true or false, without quotes."
    return ""


def _literals(shape: Shape) -> list[str]:
    return [str(value) for value in get_args(shape.annotation)] if get_origin(shape.annotation) is Literal else []


def describe(shape: Shape) -> str:
    """What a value may be, in words."""
    for one in shape.metadata:
        if isinstance(one, Allowed):
            return one.words
    if literals := _literals(shape):
        return listed(literals)
    if shape.members:
        return _members(shape)
    if shape.model is not None:
        return f"a map with the keys {listed(list(shape.keys))}"
    if get_origin(shape.annotation) is list:
        least = next((one.min_length for one in shape.metadata if isinstance(one, annotated_types.MinLen)), 0)
        return f"a list{' of at least one' if least else ''}, each {describe(Shape.of(get_args(shape.annotation)[0]))}"
    if get_origin(shape.annotation) is dict:
        return f"a map, each value {describe(Shape.of(get_args(shape.annotation)[1]))}"
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text", timedelta: "a duration"}
    return words.get(shape.annotation, "a value") + _limits(shape)


def _members(shape: Shape) -> str:
    if shape.discriminator is not None:
        tags = [member.tag(shape.discriminator) for member in shape.members]
        return f"a map whose key {shape.discriminator!r} is one of {listed(tags)}"
    return " or ".join(describe(member) for member in shape.members)


def _limits(shape: Shape) -> str:
    words = []
    for one in shape.metadata:
        match one:
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


def show(value: Any) -> str:
    """A value as it might be written in YAML, cut where it is long."""
    text = json.dumps(value, ensure_ascii=False, default=str) if not isinstance(value, str) else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
