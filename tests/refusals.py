"""Errors as tests expect them: by class, code and fields, since messages are for people and may change."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import ValidationError

from endcap.errors import EndcapError, ProblemCode, SpecError


@contextlib.contextmanager
def refused(kind: type[EndcapError], code: str, /, **fields: Any) -> Iterator[pytest.ExceptionInfo[EndcapError]]:
    """The block raises an error of this class and code, with these fields and perhaps more."""
    with pytest.raises(kind) as caught:
        yield caught
    error = caught.value
    assert error.code == code, repr(error)
    assert {name: error.fields.get(name) for name in fields} == fields, repr(error)
    assert json.loads(json.dumps(error.to_json()))["fields"] == error.fields


@contextlib.contextmanager
def misspelt(*problems: tuple[str, ProblemCode]) -> Iterator[pytest.ExceptionInfo[SpecError]]:
    """The block raises a SpecError with these problems and no others, each a key and a code."""
    with pytest.raises(SpecError) as caught:
        yield caught
    assert [(one.key, one.code) for one in caught.value.problems] == list(problems)


@contextlib.contextmanager
def mistaken(*mistakes: tuple[tuple[str | int, ...], ProblemCode]) -> Iterator[pytest.ExceptionInfo[ValidationError]]:
    """The block refuses a value with these mistakes and no others, each a key and a code."""
    with pytest.raises(ValidationError) as caught:
        yield caught
    found = [
        ((*detail["loc"], *one.at), one.code) for detail in caught.value.errors() for one in detail["ctx"]["mistakes"]
    ]
    assert found == list(mistakes)
