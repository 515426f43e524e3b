"""The base class of all spec models, their checks, and types of values that many of them have."""

from __future__ import annotations

import ast
import contextlib
import difflib
import functools
import inspect
import itertools
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, ClassVar, NoReturn, Self, TypeVar, overload

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    PlainSerializer,
    WithJsonSchema,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from endcap.errors import ProblemCode, UserError

EARLIEST_MS = 631_152_000_000
"""1990-01-01 UTC in milliseconds. An earlier time of an event comes from a wrong unit or format."""
_UNITS = {
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}
_DURATION = r"^[0-9]+(\.[0-9]+)?(ms|[smhdw])$"


def restore_integers(value: Any) -> Any:
    """Return whole numbers as integers, because KFP passes every number as a double: 42 becomes 42.0."""
    if isinstance(value, list):
        return [restore_integers(element) for element in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


class Strict(BaseModel):
    """Base class of spec models. It refuses unknown keys and values of another type. Its values do not change.

    Methods marked by `check` compare several keys.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)
    layered: ClassVar[bool] = True
    """Whether a file of this kind may extend another."""

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Describe each field by the docstring below it.

        Pydantic's `use_attribute_docstrings` parses the source of every class when it is imported, a quarter of the
        time that importing the specs takes. Only a schema needs these texts.
        """
        schema = handler(core_schema)
        properties = handler.resolve_ref_schema(schema).get("properties", {})
        for name, info in cls.model_fields.items():
            owner = next(base for base in cls.__mro__ if name in inspect.get_annotations(base))
            if text := _read_field_docs(owner).get(name):
                properties[info.alias or name].setdefault("description", text)
        return schema

    @model_validator(mode="before")
    @classmethod
    def _whole_numbers(cls, value: Any) -> Any:
        return {key: restore_integers(child) for key, child in value.items()} if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _keys_agree(self) -> Self:
        if wrong := list(find_mistakes(self)):
            raise make_mistakes_error(wrong)
        return self


@functools.cache
def _read_field_docs(model: type) -> dict[str, str]:
    """Return the docstrings below the fields that a class itself declares; none if its source is not in a file."""
    try:
        source = inspect.getsource(model)
    except OSError:
        return {}
    (definition,) = ast.parse(textwrap.dedent(source)).body
    assert isinstance(definition, ast.ClassDef)
    docs: dict[str, str] = {}
    for declaration, below in itertools.pairwise(definition.body):
        match declaration, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                docs[name] = inspect.cleandoc(text)
    return docs


@dataclass(frozen=True)
class Allowed:
    """Annotation: the allowed values in words, for messages."""

    words: str


@dataclass(frozen=True)
class Carried:
    """Annotation: no output depends on the value, so it is in no step's key. why: the reason."""

    why: str


@dataclass(frozen=True)
class Mistake:
    """A mistake that a check found. at: its key, relative to the checked model."""

    at: tuple[str | int, ...]
    actual: str
    allowed: str
    hint: str = ""
    code: ProblemCode = field(kw_only=True)


class UnknownError(Exception):
    """A check met a value that is wrong in itself, so it has no result."""


class _Unknown:
    """Stands for a value that is wrong in itself. Its attributes are unknown too. Any operation on it ends the
    check."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __repr__(self) -> str:
        return "…"


def _end_check(*values: Any) -> NoReturn:
    raise UnknownError


_OPERATIONS = (
    *("bool", "call", "contains", "float", "format", "getitem", "hash", "index", "int", "iter", "len", "str"),
    *("eq", "ne", "lt", "le", "gt", "ge"),
    *("add", "radd", "sub", "rsub", "mul", "rmul", "truediv", "rtruediv", "mod", "rmod", "or", "ror"),
)
for _operation in _OPERATIONS:
    setattr(_Unknown, f"__{_operation}__", _end_check)
UNKNOWN: Any = _Unknown()
"""Stands for a wrong value in a spec. It counts as given, so `is None` is false."""

_Function = TypeVar("_Function", bound=Callable[[Any], Iterable[Mistake]])
_Place = TypeVar("_Place")
_Value = TypeVar("_Value")
_CHECK = "_is_check"


def check(function: _Function) -> _Function:
    """Mark a method of a spec model that yields the mistakes between several keys.

    Notes
    -----
    The check also runs if keys are wrong in themselves. These are UNKNOWN, and a check that needs one ends there. So a
    check yields each mistake as early as it can, and loops over `select_known` values or `collect_mistakes` parts.
    """
    setattr(function, _CHECK, True)
    return function


@functools.cache
def _list_checks(kind: type) -> list[Callable[[Any], Iterable[Mistake]]]:
    methods = {name: method for base in reversed(kind.__mro__) for name, method in vars(base).items()}
    return [method for method in methods.values() if hasattr(method, _CHECK)]


def find_mistakes(spec: BaseModel) -> Iterator[Mistake]:
    """Run the checks of a spec model, without those of the models in it, and yield their mistakes."""
    for method in _list_checks(type(spec)):
        with contextlib.suppress(UnknownError):
            yield from method(spec)


def collect_mistakes(checks: Iterable[Iterable[Mistake]]) -> Iterator[Mistake]:
    """Yield the mistakes of several checks. A check that meets an unknown value ends, and the others go on."""
    for part in checks:
        with contextlib.suppress(UnknownError):
            yield from part


@overload
def select_known(values: Sequence[_Value]) -> dict[int, _Value]: ...
@overload
def select_known(values: Mapping[_Place, _Value]) -> dict[_Place, _Value]: ...
def select_known(values: Any) -> Any:
    """Return the values of a list or a map that are not UNKNOWN, by index or key. If the whole is, return none."""
    if values is UNKNOWN:
        return {}
    pairs = values.items() if isinstance(values, Mapping) else enumerate(values)
    return {place: value for place, value in pairs if value is not UNKNOWN}


def is_whole(value: Any) -> bool:
    """Return whether a value has no UNKNOWN part."""
    if isinstance(value, BaseModel):
        return all(is_whole(part) for part in vars(value).values())
    if isinstance(value, list | dict):
        return all(is_whole(part) for part in (value.values() if isinstance(value, dict) else value))
    return value is not UNKNOWN


def find_repeats(values: Sequence[Any]) -> list[int]:
    """Return the indices of values that occur earlier in the list."""
    known_values = list(select_known(values).items())
    return [
        place
        for number, (place, value) in enumerate(known_values)
        if value in [earlier for _, earlier in known_values[:number]]
    ]


def prefix_keys(key: tuple[str | int, ...], of_part: Iterable[Mistake]) -> Iterator[Mistake]:
    """Return the mistakes of a part of a spec with keys relative to the whole. key: the key of the part."""
    return (replace(mistake, at=(*key, *mistake.at)) for mistake in of_part)


def suggest(word: object, allowed: Iterable[str]) -> str:
    """Return `Did you mean …?` with the most similar allowed word; empty if none is similar."""
    near = difflib.get_close_matches(word, list(allowed), n=1, cutoff=0.6) if isinstance(word, str) else []
    return f"Did you mean {near[0]!r}?" if near else ""


def make_mistakes_error(found_mistakes: Sequence[Mistake]) -> PydanticCustomError:
    """Make the error that a validator raises. Each mistake is then reported at its own key."""
    text = "; ".join(
        f"{'.'.join(map(str, mistake.at))} found {mistake.actual}; allowed: {mistake.allowed}"
        for mistake in found_mistakes
    )
    return PydanticCustomError("mistakes", "{text}", {"text": text, "mistakes": list(found_mistakes)})


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
    """Return the shortest exact text of a duration: ``timedelta(minutes=30)`` is ``30m``."""
    if value == timedelta(0):
        return "0s"
    seconds, fraction = divmod(value, timedelta(seconds=1))
    if fraction and (seconds or fraction % _UNITS["ms"]):
        return f"{seconds}.{fraction.microseconds:06d}".rstrip("0") + "s"
    name = next(name for name in ("w", "d", "h", "m", "s", "ms") if not value % _UNITS[name])
    return f"{value // _UNITS[name]}{name}"


def parse_date(text: str) -> datetime:
    """Parse an ISO date or time, and return it in UTC. A text without a zone is in UTC. Raises UserError."""
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
