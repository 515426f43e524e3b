"""What is right of a document in which something is wrong, so that checks over several keys speak all the same."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Annotated, Any, cast, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, TypeAdapter, ValidationError

from endcap.spec.base import UNKNOWN, Mistake, mistakes_in, unbent, under
from endcap.spec.shape import Shape


def part_of(shape: Shape, value: Any) -> Any:
    """A value as its type has it. What is wrong in it is UNKNOWN, and so is what is missing."""
    if shape.members:
        member = shape.member_for(value)
        if member is not None:
            return part_of(member, value)
        return UNKNOWN if isinstance(value, dict) else _leaf(shape, value)
    if shape.model is not None:
        value = _prepared(shape, value)
        return _of_model(shape.model, value) if isinstance(value, dict) else _leaf(shape, value)
    of_values = [Shape.of(argument) for argument in get_args(shape.annotation)]
    if get_origin(shape.annotation) is list and isinstance(value, list):
        return [part_of(of_values[0], element) for element in value]
    if get_origin(shape.annotation) is dict and isinstance(value, dict):
        return {key: part_of(of_values[1], element) for key, element in value.items()}
    return _leaf(shape, value)


def mistakes_within(value: Any) -> Iterator[Mistake]:
    """What checks find in a spec and in all specs within it."""
    if isinstance(value, BaseModel):
        yield from mistakes_in(value)
        fields = type(value).model_fields
        parts: Any = {fields[name].alias or name: part for name, part in vars(value).items()}.items()
    elif isinstance(value, list | dict):
        parts = value.items() if isinstance(value, dict) else enumerate(value)
    else:
        return
    for key, part in parts:
        yield from under((key,), mistakes_within(part))


def _of_model(model: type[BaseModel], value: dict[str, Any]) -> Any:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        # At the key itself, rather than below it: a list that is too short, text in place of a map. What a check says
        # of a spec within this one leaves its keys as they are.
        details = [detail for detail in error.errors() if len(detail["loc"]) == 1 and detail["type"] != "mistakes"]
        wrong = {detail["loc"][0] for detail in details}
    # Without validation the fields of a frozen model are set past pydantic.
    part = model.model_construct()
    for name, field in model.model_fields.items():
        key = field.alias or name
        if key in value:
            content = unbent(value[key])
            # A shape does not say whether null is allowed; where it is not, the key is among the wrong ones.
            right = None if content is None else part_of(Shape.of_field(field), content)
            vars(part)[name] = UNKNOWN if key in wrong else right
        elif field.is_required():
            vars(part)[name] = UNKNOWN
        else:
            default = field.get_default(call_default_factory=True)
            vars(part)[name] = part_of(Shape.of_field(field), default) if field.validate_default else default
    return part


def _prepared(shape: Shape, value: Any) -> Any:
    """What a model is made of: a short form written out."""
    try:
        for mark in shape.metadata:
            value = cast(Any, mark.func)(value) if isinstance(mark, BeforeValidator) else value
    except ValueError:  # pydantic's own errors of validators are such
        return UNKNOWN
    return value


def _leaf(shape: Shape, value: Any) -> Any:
    try:
        return _adapter(shape).validate_python(value)
    except ValidationError:
        return UNKNOWN


@functools.lru_cache(maxsize=1000)
def _adapter(shape: Shape) -> TypeAdapter[Any]:
    annotation: Any = Annotated[shape.annotation, *shape.metadata] if shape.metadata else shape.annotation
    strict = ConfigDict(strict=True, allow_inf_nan=False)
    return TypeAdapter(annotation, config=strict if shape.model is None else None)  # a model has its own
