"""Domains of parameters: what a search may try."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, ValidationInfo, field_validator

from endcap.spec.base import Mistake, Strict, mistakes


class Between(Strict):
    """Numbers from `low` to `high`, both included; whole ones where both ends are whole and `integer` is set."""

    low: float
    high: float
    log: bool = False
    """Even in the logarithm: for rates and sizes that matter by their order of magnitude."""
    integer: bool = False

    @field_validator("high")
    @classmethod
    def _ends_in_order(cls, high: float, info: ValidationInfo) -> float:
        low = info.data.get("low")
        if low is not None and not low < high:
            raise mistakes([Mistake((), f"{high:g}, and low is {low:g}", "more than low", code="conflict")])
        return high

    @field_validator("log")
    @classmethod
    def _logarithm_exists(cls, log: bool, info: ValidationInfo) -> bool:
        low = info.data.get("low")
        if log and low is not None and low <= 0:
            raise mistakes([Mistake((), f"true, and low is {low:g}", "a low above 0", code="conflict")])
        return log

    @field_validator("integer")
    @classmethod
    def _ends_are_whole(cls, integer: bool, info: ValidationInfo) -> bool:
        ends = [info.data.get("low"), info.data.get("high")]
        if integer and any(end is not None and not float(end).is_integer() for end in ends):
            found = "true, and the ends are no whole numbers"
            raise mistakes([Mistake((), found, "whole low and high", code="conflict")])
        return integer

    def holds(self, value: Any) -> bool:
        """Whether a value lies in the domain."""
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return False
        return self.low <= value <= self.high and (not self.integer or float(value).is_integer())

    def corners(self) -> list[Any]:
        """The values at the ends: what must be allowed for the whole domain to be."""
        return [int(end) if self.integer else float(end) for end in (self.low, self.high)]

    def inner(self) -> float:
        """A number between the ends that is not whole: what a parameter of whole numbers does not allow."""
        middle = (self.low + self.high) / 2
        return middle + min(0.25, (self.high - self.low) / 4) if middle.is_integer() else middle


class Choice(Strict):
    """One of the values."""

    values: Annotated[list[Any], Field(min_length=1)]

    def holds(self, value: Any) -> bool:
        """Whether a value is one of them."""
        return value in self.values

    def corners(self) -> list[Any]:
        """All of them."""
        return list(self.values)


Domain = Between | Choice
Space = Mapping[str, Domain]


def choice(*values: Any) -> Choice:
    """`Choice` in a word, for the default spaces."""
    return Choice(values=list(values))


def between(low: float, high: float, *, log: bool = False, integer: bool = False) -> Between:
    """`Between` in a word, for the default spaces."""
    return Between(low=low, high=high, log=log, integer=integer)
