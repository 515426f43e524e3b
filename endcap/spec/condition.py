"""Conditions on a source's rows, by column."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field

from endcap.spec.base import Allowed, Mistake, Strict, check

Scalar = str | int | float | bool


class Condition(Strict):
    """What a column's value must be; of several keys all must hold. A missing value fits `present: false` alone."""

    model_config = ConfigDict(populate_by_name=True)

    among: Annotated[list[str], Field(min_length=1)] | None = None
    """One of these texts."""
    other: Annotated[list[str], Field(min_length=1)] | None = None
    """None of these texts."""
    prefix: str | None = None
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
    def _alone_where_absent(self) -> Iterator[Mistake]:
        others = [name for name, value in self if value is not None and name != "present"]
        if self.present is False and others:
            yield Mistake(("present",), f"false, and {', '.join(others)}", "false alone", code="conflict")


def _as_condition(value: Any) -> Any:
    """A value or a list of values stands for `among`."""
    if isinstance(value, list):
        return {"among": [_as_text(one) for one in value]}
    return {"among": [_as_text(value)]} if isinstance(value, Scalar) else value


def _as_text(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else value


Conditions = dict[
    str,
    Annotated[
        Condition,
        BeforeValidator(_as_condition),
        Allowed("a value, a list of values, or a map with among, other, prefix, min, max, above, below, present"),
    ],
]
"""Conditions by the column (or path) that they are about."""
