"""How sessions are split into a training, a validation and a test part."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from endcap.spec.base import Duration, Mistake, Strict, check

Part = Annotated[float, Field(ge=0.0, lt=1.0)]
"""A share that leaves something for the other parts, from 0 to below 1."""


class TimeSplit(Strict):
    """A split by time. The latest sessions are the test part, those before them the validation part. The rest is the
    training part."""

    by: Literal["time"] = "time"
    """How sessions are split."""
    test: Duration | Part = Field(default="1d", validate_default=True)
    """The length of the test part, such as 1d, or its share of the sessions, such as 0.1."""
    validation: Duration | Part = Field(default="1d", validate_default=True)
    """The length of the validation part, or its share of the sessions."""

    @check
    def _training_part_is_not_empty(self) -> Iterator[Mistake]:
        test, validation = self.test, self.validation
        if isinstance(test, float) and isinstance(validation, float) and test + validation >= 1:
            actual = f"{validation}, and split.test is {test}"
            allowed = "shares that add up to less than 1, because the rest is the training part"
            yield Mistake(("validation",), actual, allowed, code="conflict")


class GivenSplit(Strict):
    """A split that the log gives. The shop's sources with `part: test` are the test part. The latest of the other
    sessions are the validation part."""

    by: Literal["given"]
    """How sessions are split."""
    validation: Duration | Part = Field(default="1d", validate_default=True)
    """The length of the validation part, such as 1d, or its share of the sessions, such as 0.1."""


class LeaveOneOutSplit(Strict):
    """A split within each session. The last moment is the test part, the moment before it the validation part, and the
    rest the training part.

    A moment is one event. If `evaluation.order` is `sets`, all events of one time form a moment. Sessions of fewer than
    three moments are only in the training part. The training part has events of other sessions that are later than the
    test events; splits by time have none.
    """

    by: Literal["leave-one-out"]
    """How sessions are split."""
