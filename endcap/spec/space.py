"""Domains of parameters: the values that a search may try."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import Field

from endcap.spec.base import UNKNOWN, Mistake, Strict, check, select_known


class Between(Strict):
    """Numbers from `low` to `high`, both included."""

    low: float
    """The smallest value."""
    high: float
    """The largest value."""
    log: bool = False
    """Draws values evenly on a logarithmic scale. Use it for rates and sizes whose order of magnitude matters."""
    integer: bool = False
    """Draws whole numbers only."""

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
            actual = "true, and low or high is no whole number"
            yield Mistake(("integer",), actual, "whole low and high", code="conflict")

    def holds(self, value: Any) -> bool:
        """Return whether a value is in the domain."""
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return False
        return self.low <= value <= self.high and (not self.integer or float(value).is_integer())

    def corners(self) -> list[Any]:
        """Return the values at both ends. If a parameter allows these, it allows the whole domain."""
        return [self._corner(end) for end in (self.low, self.high)]

    def _corner(self, end: float) -> Any:
        if end is UNKNOWN:
            return UNKNOWN
        return int(end) if self.integer and float(end).is_integer() else float(end)

    def inner(self) -> float:
        """Return a number between the ends that is not whole. A parameter of whole numbers does not allow it."""
        middle = (self.low + self.high) / 2
        return middle + min(0.25, (self.high - self.low) / 4) if middle.is_integer() else middle


class Choice(Strict):
    """One of several values."""

    values: Annotated[list[Any], Field(min_length=1)]
    """The values."""

    def holds(self, value: Any) -> bool:
        """Return whether a value is one of them."""
        return value in self.values

    def corners(self) -> list[Any]:
        """Return all values."""
        return list(self.values)


Domain = Between | Choice
Space = Mapping[str, Domain]


def choice(*values: Any) -> Choice:
    """Make a `Choice`, for the default spaces of models."""
    return Choice(values=list(values))


def between(low: float, high: float, *, log: bool = False, integer: bool = False) -> Between:
    """Make a `Between`, for the default spaces of models."""
    return Between(low=low, high=high, log=log, integer=integer)
