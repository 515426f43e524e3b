"""The files of a package, one by one: that each is a file of the package, and holds what packages are written with."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, NotRequired

import pyarrow as pa
import pyarrow.parquet as pq
from annotated_types import Ge, Le
from pydantic import TypeAdapter
from typing_extensions import TypedDict

from endcap.errors import IntegrityError
from endcap.features.vocabulary import Vocabulary
from endcap.safe_reading import check_regular, parse_json, read_bytes
from endcap.store.safe_paths import join_safely

DAMAGE_ERRORS = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
    pa.ArrowException,
)
"""What code raises that meets values which no package was written with: of NumPy, Arrow and torch too."""


EpochMilliseconds = Annotated[int, Ge(-62_135_596_800_000), Le(253_402_300_799_999)]
"""Epoch ms, of years that a calendar has."""


RecipeShape = TypedDict(  # noqa: UP013 (no name of ours is `found`, and this key is stored)
    "RecipeShape",
    {
        "model": dict[str, Any],
        "found": dict[str, Any],
    },
)


class InfoShape(TypedDict, total=False):
    name: str
    items: Annotated[int, Ge(0)]
    fitted_until: EpochMilliseconds | None
    dataset: str | None
    trained: str | None
    verdict: str | None
    pseudonyms: str | None
    recipe: RecipeShape | None


class _ScoreShape(TypedDict):
    score: float | None


class _AnswerShape(TypedDict):
    items: list[_ScoreShape]


class ExampleShape(TypedDict):
    request: dict[str, Any]
    answer: _AnswerShape


class FeaturesShape(TypedDict):
    events: list[Any]
    event_types: list[str] | None
    session_gap_ms: NotRequired[Annotated[int, Ge(0), Le(253_402_300_799_999)] | None]


INFO_ADAPTER, FEATURES_ADAPTER, EXAMPLE_ADAPTER = (
    TypeAdapter(InfoShape),
    TypeAdapter(FeaturesShape),
    TypeAdapter(ExampleShape),
)
ENVIRONMENT_ADAPTER = TypeAdapter(dict[str, str])


@contextlib.contextmanager
def report_damage(folder: Path) -> Iterator[None]:
    """Turn every error of the block that a damaged file causes into IntegrityError."""
    try:
        yield
    except DAMAGE_ERRORS as error:
        raise make_damaged_error(folder, error) from error


def make_damaged_error(folder: Path, error: Exception) -> IntegrityError:
    """Make the error for a package that differs from what was written."""
    return IntegrityError(
        f"{folder} is no whole package: {error}; register another version",
        code="registry.package-damaged",
        path=str(folder),
        reason=str(error),
    )


def find_file(folder: Path, name: str) -> Path:
    """Find a file of the package.

    Raises IntegrityError if its name leads out of the folder, OSError if it is not a file.
    """
    file = join_safely(folder, name, str(folder))
    check_regular(file)
    return file


def read_json_file(folder: Path, name: str, shape: TypeAdapter[Any] | None = None) -> Any:
    """Read a JSON file and check its shape. Raises IntegrityError, OSError or ValueError."""
    value = parse_json(read_bytes(find_file(folder, name)))
    if shape is not None:
        shape.validate_python(value, strict=True)
    return value


def read_vocabulary(folder: Path, name: str) -> Vocabulary:
    """Read the item ids. Raises IntegrityError, OSError, ValueError, KeyError or TypeError."""
    vocabulary = Vocabulary.load(find_file(folder, name))
    ids = vocabulary.ids
    if not isinstance(ids, list) or not all(isinstance(item, str) for item in ids) or len(set(ids)) != len(ids):
        raise ValueError(f"{name} is no list of different texts")
    return vocabulary


def read_table(folder: Path, name: str, column: str) -> pa.Table:
    """Read a table with a column of unique texts. Raises IntegrityError, OSError, ValueError or ArrowException."""
    table = pq.read_table(find_file(folder, name), partitioning=None)
    if column not in table.column_names:
        raise ValueError(f"{name} has no column {column!r}")
    kind = table.schema.field(column).type
    if not pa.types.is_string(kind) and not pa.types.is_large_string(kind):
        raise ValueError(f"the column {column!r} of {name} holds {kind}, texts are expected")
    if table[column].null_count or len(table[column].unique()) != len(table):
        raise ValueError(f"the column {column!r} of {name} does not hold different texts")
    return table


def check_order(items: pa.Table, ids: Sequence[str]) -> None:
    """Check that the item table has the vocabulary's items in the same order. Raises ValueError."""
    if len(items) == len(ids) and items["item"].to_pylist() != list(ids):
        raise ValueError("the item table is not in the order of the vocabulary")
