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
    """A condition on a column's value. If it has several keys, all must hold. A missing value fits only
    `present: false`.

    With min, max, above or below, a value that is no number makes the row bad.
    """

    among: _Texts | None = None
    """The value is one of these texts, character by character: 5 is not 5.0."""
    not_among: _Texts | None = None
    """The value is none of these texts."""
    prefix: Annotated[str, Field(min_length=1)] | None = None
    """The value begins with this text."""
    min: float | None = None
    """The value is at least this number."""
    max: float | None = None
    """The value is at most this number."""
    above: float | None = None
    """The value is greater than this number."""
    below: float | None = None
    """The value is less than this number."""
    present: bool | None = None
    """`true`: there is a value. `false`: there is none."""

    @check
    def _texts_are_values(self) -> Iterator[Mistake]:
        for key, texts in (("among", self.among), ("not_among", self.not_among)):
            for place, value in select_known(texts or []).items():
                if not value:
                    allowed = "texts that are not empty; {present: false} means a missing value"
                    yield Mistake((key, place), "''", allowed, code="not-allowed")

    @check
    def _absent_values_have_no_bounds(self) -> Iterator[Mistake]:
        bounds = [name for name, value in self if value is not None and name != "present"]
        if self.present is False and bounds:
            yield Mistake(("present",), f"false, and {', '.join(bounds)}", "false alone", code="conflict")

    @check
    def _bounds_leave_room(self) -> Iterator[Mistake]:
        bounds = {name: value for name, value in self if value is not None and name in ("min", "above", "max", "below")}
        # The stricter bound counts. Of two equal bounds, that is the one that excludes the number itself.
        least, over, lower = max((bounds.get(name, -math.inf), name == "above", name) for name in ("min", "above"))
        most, under, upper = min((bounds.get(name, math.inf), name != "below", name) for name in ("max", "below"))
        if least > most or (least == most and (over or not under)):
            allowed = f"a number that leaves room for {lower}: {least:g}"
            yield Mistake((upper,), f"{most:g}", allowed, code="conflict")


def _as_condition(value: Any) -> Any:
    """Write out the short form: a value or a list of values stands for `among`."""
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
    """Convert values to texts. at: the list's place in the condition; None for a single value."""
    # YAML reads 1.50 as the number 1.5. The text is lost, and the text of the number may not be in the log.
    for number, value in enumerate(values):
        if isinstance(value, float):
            allowed = "text; write it in quotes, exactly as in the log"
            raise make_mistakes_error(
                [Mistake(() if at is None else (*at, number), str(value), allowed, code="wrong-type")]
            )
    return [str(value).lower() if isinstance(value, bool | int) else value for value in values]


Conditions = dict[str, Annotated[RowCondition, BeforeValidator(_as_condition), _Short, Allowed(_WORDS)]]
"""Conditions, by the name or path of the column."""
