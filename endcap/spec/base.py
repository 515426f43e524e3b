"""What all spec models share."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from endcap.errors import ProblemCode, UserError

ApiVersion = Literal["endcap/v1"]
"""The version of spec files that this release reads."""
(API_VERSION,) = get_args(ApiVersion)
EARLIEST_MS = 631_152_000_000
"""1990-01-01 UTC in epoch ms: an earlier time of an event is a mistake of unit or of parsing."""
_UNITS = {
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}
_DURATION = r"^[0-9]+(\.[0-9]+)?(ms|[smhdw])$"


def _whole(value: Any) -> Any:
    if isinstance(value, list):
        return [_whole(one) for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


class Strict(BaseModel):
    """Unknown keys are errors, types are not bent, values do not change."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )
    layered: ClassVar[bool] = True
    """Whether a file of this kind may extend another."""

    # KFP hands on every number as a double: 42 comes out of a pipeline's parameter as 42.0.
    @model_validator(mode="before")
    @classmethod
    def _whole_numbers(cls, value: Any) -> Any:
        return {key: _whole(one) for key, one in value.items()} if isinstance(value, dict) else value


@dataclass(frozen=True)
class Allowed:
    """Annotation: what a value may be, in words, for messages."""

    words: str


@dataclass(frozen=True)
class Mistake:
    """What a check over several keys found. `at` is the key, from the value that was checked."""

    at: tuple[str | int, ...]
    found: str
    allowed: str
    hint: str = ""
    code: ProblemCode = field(kw_only=True)


def suggest(found: object, allowed: Iterable[str]) -> str:
    """A question after the nearest of the allowed words, or nothing where none is near."""
    near = difflib.get_close_matches(found, list(allowed), n=1, cutoff=0.6) if isinstance(found, str) else []
    return f"Did you mean {near[0]!r}?" if near else ""


def mistakes(found: Sequence[Mistake]) -> PydanticCustomError:
    """The error that a validator raises, so that each mistake is reported at its own key."""
    text = "; ".join(f"{'.'.join(map(str, one.at))} found {one.found}; allowed: {one.allowed}" for one in found)
    return PydanticCustomError("mistakes", "{text}", {"text": text, "mistakes": list(found)})


def _parse_duration(value: Any) -> Any:
    if isinstance(value, str) and re.fullmatch(_DURATION, value):
        number = value.rstrip("mshdw")
        unit = _UNITS[value.removeprefix(number)]
        try:
            return timedelta(microseconds=int(Decimal(number) * (unit // timedelta(microseconds=1))))
        except OverflowError:
            raise ValueError("a duration of less than 2.7 million years") from None
    if isinstance(value, timedelta):
        return value
    raise ValueError("a number and a unit out of ms, s, m, h, d, w, such as 30m")


def format_duration(value: timedelta) -> str:
    """The shortest exact form: ``timedelta(minutes=30)`` is ``30m``."""
    if value == timedelta(0):
        return "0s"
    seconds, rest = divmod(value, timedelta(seconds=1))
    if rest and (seconds or rest % _UNITS["ms"]):
        return f"{seconds}.{rest.microseconds:06d}".rstrip("0") + "s"
    name = next(name for name in ("w", "d", "h", "m", "s", "ms") if not value % _UNITS[name])
    return f"{value // _UNITS[name]}{name}"


def parse_date(text: str) -> datetime:
    """An ISO date or time as a moment in UTC; without a zone it is UTC's. Raises UserError."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UserError(
            f"{text!r} is not a date: give an ISO date such as 2026-03-02, or a time such as 2026-03-02T06:00:00+01:00",
            code="spec.not-a-date",
            found=text,
        ) from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


Duration = Annotated[
    timedelta,
    BeforeValidator(_parse_duration),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema({"type": "string", "pattern": _DURATION, "examples": ["30m", "7d"]}),
    Allowed("a duration such as 30m or 7d (units: ms, s, m, h, d, w)"),
]
Name = Annotated[
    str,
    Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,51}[a-z0-9])?$"),
    Allowed("a name of small letters, digits and inner hyphens, at most 53 characters"),
]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
