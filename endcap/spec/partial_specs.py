"""Build a spec model from the right values of a document that has wrong ones, so that checks can still run."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Annotated, Any, cast, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, TypeAdapter, ValidationError

from endcap.spec.base import UNKNOWN, Mistake, find_mistakes, prefix_keys, restore_integers
from endcap.spec.shape import Shape


def build_partial(shape: Shape, value: Any) -> Any:
    """Convert a value to its type. Its wrong and its missing parts are UNKNOWN."""
    if shape.members:
        member = shape.member_for(value)
        if member is not None:
            return build_partial(member, value)
        return UNKNOWN if isinstance(value, dict) else _validate_leaf(shape, value)
    if shape.model is not None:
        value = _write_out_short_form(shape, value)
        return _build_model(shape.model, value) if isinstance(value, dict) else _validate_leaf(shape, value)
    of_values = [Shape.of(argument) for argument in get_args(shape.annotation)]
    if get_origin(shape.annotation) is list and isinstance(value, list):
        return [build_partial(of_values[0], element) for element in value]
    if get_origin(shape.annotation) is dict and isinstance(value, dict):
        return {key: build_partial(of_values[1], element) for key, element in value.items()}
    return _validate_leaf(shape, value)


def find_nested_mistakes(value: Any) -> Iterator[Mistake]:
    """Yield the mistakes that the checks of a spec model, and of all models in it, find."""
    if isinstance(value, BaseModel):
        yield from find_mistakes(value)
        fields = type(value).model_fields
        parts: Any = {fields[name].alias or name: part for name, part in vars(value).items()}.items()
    elif isinstance(value, list | dict):
        parts = value.items() if isinstance(value, dict) else enumerate(value)
    else:
        return
    for key, part in parts:
        yield from prefix_keys((key,), find_nested_mistakes(part))


def _build_model(model: type[BaseModel], value: dict[str, Any]) -> Any:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        # Only errors at the key itself count here, such as a list that is too short. Errors below it, and the mistakes
        # of checks, do not make the whole value unknown.
        details = [detail for detail in error.errors() if len(detail["loc"]) == 1 and detail["type"] != "mistakes"]
        wrong = {detail["loc"][0] for detail in details}
    # A frozen model refuses assignments, so the fields are set without pydantic.
    part = model.model_construct()
    for name, field in model.model_fields.items():
        key = field.alias or name
        if key in value:
            content = restore_integers(value[key])
            # A shape does not say whether null is allowed. If it is not, the key is in `wrong`.
            part_value = None if content is None else build_partial(Shape.of_field(field), content)
            vars(part)[name] = UNKNOWN if key in wrong else part_value
        elif field.is_required():
            vars(part)[name] = UNKNOWN
        else:
            default = field.get_default(call_default_factory=True)
            vars(part)[name] = build_partial(Shape.of_field(field), default) if field.validate_default else default
    return part


def _write_out_short_form(shape: Shape, value: Any) -> Any:
    """Write out the short form of a model."""
    try:
        for mark in shape.metadata:
            value = cast(Any, mark.func)(value) if isinstance(mark, BeforeValidator) else value
    except ValueError:  # pydantic's errors are ValueErrors
        return UNKNOWN
    return value


def _validate_leaf(shape: Shape, value: Any) -> Any:
    try:
        return _make_adapter(shape).validate_python(value)
    except ValidationError:
        return UNKNOWN


@functools.lru_cache(maxsize=1000)
def _make_adapter(shape: Shape) -> TypeAdapter[Any]:
    annotation: Any = Annotated[shape.annotation, *shape.metadata] if shape.metadata else shape.annotation
    strict = ConfigDict(strict=True, allow_inf_nan=False)
    return TypeAdapter(annotation, config=strict if shape.model is None else None)  # a model has its own
