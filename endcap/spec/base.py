"""What all spec models share."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, WithJsonSchema

from endcap.errors import UserError

API_VERSION = "endcap/v1"
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_DURATION = r"^[0-9]+(\.[0-9]+)?[smhdw]$"


class Strict(BaseModel):
    """Unknown keys are errors, types are not bent, values do not change."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True)


def _parse_duration(value: Any) -> Any:
    if isinstance(value, str) and re.match(_DURATION, value):
        return timedelta(**{_UNITS[value[-1]]: float(value[:-1])})
    if isinstance(value, timedelta):
        return value
    raise ValueError("a number and a unit out of s, m, h, d, w, such as 30m")


def format_duration(value: timedelta) -> str:
    """The shortest exact form: ``timedelta(minutes=30)`` is ``30m``."""
    seconds = value.total_seconds()
    for unit, size in (("w", 604800), ("d", 86400), ("h", 3600), ("m", 60)):
        if seconds and seconds % size == 0:
            return f"{int(seconds // size)}{unit}"
    return f"{seconds:g}s"


Duration = Annotated[
    timedelta,
    BeforeValidator(_parse_duration),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema({"type": "string", "pattern": _DURATION, "examples": ["30m", "7d"]}),
]
Name = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,51}[a-z0-9])?$")]
Share = Annotated[float, Field(ge=0.0, le=1.0)]


def parse_date(text: str) -> datetime:
    """An ISO 8601 date or time in UTC; a time that names no zone is UTC. Raises UserError."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UserError(f"date {text!r}: allowed: ISO 8601, such as 2026-03-01 or 2026-03-01T06:00:00Z") from None
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
