"""Domains of parameters: what a search may try."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import Field

from endcap.spec.base import UNKNOWN, Mistake, Strict, check, select_known


class Between(Strict):
    """Numbers from `low` to `high`, both included; whole ones where both ends are whole and `integer` is set."""

    low: float
    high: float
    log: bool = False
    """Even in the logarithm: for rates and sizes that matter by their order of magnitude."""
    integer: bool = False

    @check
    def _ends_in_order(self) -> Iterator[Mistake]:
        if not self.low < self.high:
            yield Mistake(("high",), f"{self.high:g}, and low is {self.low:g}", "more than low", code="conflict")

    @check
    def _logarithm_exists(self) -> Iterator[Mistake]:
        if self.log and self.low <= 0:
            yield Mistake(("log",), f"true, and low is {self.low:g}", "a low above 0", code="conflict")

    @check
    def _ends_are_whole(self) -> Iterator[Mistake]:
        if self.integer and any(not float(end).is_integer() for end in select_known([self.low, self.high]).values()):
            actual = "true, and the ends are no whole numbers"
            yield Mistake(("integer",), actual, "whole low and high", code="conflict")

    def holds(self, value: Any) -> bool:
        """Whether a value lies in the domain."""
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return False
        return self.low <= value <= self.high and (not self.integer or float(value).is_integer())

    def corners(self) -> list[Any]:
        """The values at the ends: what must be allowed for the whole domain to be."""
        return [self._corner(end) for end in (self.low, self.high)]

    def _corner(self, end: float) -> Any:
        if end is UNKNOWN:
            return UNKNOWN
        return int(end) if self.integer and float(end).is_integer() else float(end)

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
