"""How sessions are split into a training, a validation and a test part."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from endcap.spec.base import Duration, Mistake, Strict, check

Part = Annotated[float, Field(ge=0.0, lt=1.0)]
"""A share that leaves something for the other parts."""


class TimeSplit(Strict):
    """Sessions that begin in the last part of the window are the test, those just before it the validation."""

    by: Literal["time"] = "time"
    test: Duration | Part = Field(default="1d", validate_default=True)
    """A duration such as 1d, or a share of the sessions such as 0.1."""
    validation: Duration | Part = Field(default="1d", validate_default=True)

    @check
    def _some_sessions_are_left(self) -> Iterator[Mistake]:
        test, validation = self.test, self.validation
        if isinstance(test, float) and isinstance(validation, float) and test + validation >= 1:
            actual = f"{validation}, and split.test is {test}"
            allowed = "shares that add up to less than 1: the rest is trained on"
            yield Mistake(("validation",), actual, allowed, code="conflict")


class GivenSplit(Strict):
    """Test sessions come from the shop's sources of `part: test`; validation is cut from the training part's end."""

    by: Literal["given"]
    validation: Duration | Part = Field(default="1d", validate_default=True)


class LeaveOneOutSplit(Strict):
    """Of each session the last moment is the test and the one before it the validation; the rest is trained on.

    A moment is an event, or all events of one time where evaluation.order is sets. Sessions of fewer than three moments
    are trained on whole. Others' later events are in the training part: time splits are free of that.
    """

    by: Literal["leave-one-out"]
