"""Conditions on a source's rows, by column."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, GetJsonSchemaHandler, WithJsonSchema
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from endcap.spec.base import Allowed, Mistake, Strict, check, make_mistakes_error, select_known

_WORDS = (
    "a value, a list of values, or a map with among, not_among, prefix, min, max, above, below, present; "
    "texts such as 007 and 1.50 in quotes"
)


class _Short:
    """Annotation: a JSON schema allows the short forms too."""

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"anyOf": [_SCALAR, _SEVERAL, handler(core)]}


_SCALAR: JsonSchemaValue = {"type": ["string", "integer", "boolean"]}
_SEVERAL: JsonSchemaValue = {"type": "array", "items": _SCALAR, "minItems": 1}
_Texts = Annotated[list[str], Field(min_length=1), WithJsonSchema(_SEVERAL)]


class RowCondition(Strict):
    """What a column's value must be; of several keys all must hold. A missing value fits `present: false` alone.

    Where min, max, above or below are given, a value that is no number makes its row a bad one.
    """

    among: _Texts | None = None
    """One of these texts, letter by letter: 5 is not 5.0."""
    not_among: _Texts | None = None
    """None of these texts."""
    prefix: Annotated[str, Field(min_length=1)] | None = None
    """A text that begins so."""
    min: float | None = None
    """A number of at least this."""
    max: float | None = None
    """A number of at most this."""
    above: float | None = None
    """A number greater than this."""
    below: float | None = None
    """A number less than this."""
    present: bool | None = None
    """Whether there is a value at all."""

    @check
    def _texts_are_values(self) -> Iterator[Mistake]:
        for key, texts in (("among", self.among), ("not_among", self.not_among)):
            for place, value in select_known(texts or []).items():
                if not value:
                    allowed = "texts that are not empty; of a missing value, {present: false}"
                    yield Mistake((key, place), "''", allowed, code="not-allowed")

    @check
    def _alone_where_absent(self) -> Iterator[Mistake]:
        bounds = [name for name, value in self if value is not None and name != "present"]
        if self.present is False and bounds:
            yield Mistake(("present",), f"false, and {', '.join(bounds)}", "false alone", code="conflict")

    @check
    def _bounds_leave_room(self) -> Iterator[Mistake]:
        bounds = {name: value for name, value in self if value is not None and name in ("min", "above", "max", "below")}
        # The bound that takes more counts; of two equal ones that is the one that takes the number itself too.
        least, over, lower = max((bounds.get(name, -math.inf), name == "above", name) for name in ("min", "above"))
        most, under, upper = min((bounds.get(name, math.inf), name != "below", name) for name in ("max", "below"))
        if least > most or (least == most and (over or not under)):
            allowed = f"a number that leaves room for {lower}: {least:g}"
            yield Mistake((upper,), f"{most:g}", allowed, code="conflict")


def _as_condition(value: Any) -> Any:
    """A value or a list of values stands for `among`."""
    if isinstance(value, dict):
        if all(bound is None for bound in value.values()):
            raise make_mistakes_error([Mistake((), "no condition", _WORDS, code="missing")])
        texts = {
            key: _as_texts(value[key], (key,)) for key in ("among", "not_among") if isinstance(value.get(key), list)
        }
        return {**value, **texts}
    if isinstance(value, list) and value:
        return {"among": _as_texts(value, ())}
    return {"among": _as_texts([value])} if isinstance(value, str | int | float) else value


def _as_texts(values: list[Any], at: tuple[str, ...] | None = None) -> list[Any]:
    """at: where in the condition the list stands; None: there is no list, but one value."""
    # YAML's 1.50 is the number 1.5: the log's own text is gone, and what is written in its place need not be equal.
    for number, value in enumerate(values):
        if isinstance(value, float):
            allowed = "text; write it in quotes, letter by letter as in the log"
            raise make_mistakes_error(
                [Mistake(() if at is None else (*at, number), str(value), allowed, code="wrong-type")]
            )
    return [str(value).lower() if isinstance(value, bool | int) else value for value in values]


Conditions = dict[str, Annotated[RowCondition, BeforeValidator(_as_condition), _Short, Allowed(_WORDS)]]
"""Conditions by the column (or path) that they are about."""
