"""What happens in a run while it goes on, as values: whoever starts a run listens to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, TypeAlias

from endcap.runs.fault import Fault

Json = dict[str, Any]


@dataclass(frozen=True)
class _Event:
    kind: ClassVar[str]

    def to_json(self) -> Json:
        """The event as one flat document; its kind stands under `event`."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        if isinstance(values.get("fault"), Fault):
            values["fault"] = values["fault"].to_json()
        return {"event": self.kind, **values}


@dataclass(frozen=True)
class StepStart(_Event):
    """A step has begun."""

    kind: ClassVar[str] = "started"
    step: str


@dataclass(frozen=True)
class StepProgress(_Event):
    """A step reports its progress."""

    kind: ClassVar[str] = "progress"
    step: str
    line: str


@dataclass(frozen=True)
class StepEnd(_Event):
    """A step has ended well.

    Attributes
    ----------
    step
        The step.
    result
        The artifact's address, or a value such as a version.
    summary
        The result in one line.
    seconds
        The duration.
    reused
        Whether the result existed before and was not made again.
    """

    kind: ClassVar[str] = "done"
    step: str
    result: str = ""
    summary: str = ""
    seconds: float = 0.0
    reused: bool = False


@dataclass(frozen=True)
class StepFailure(_Event):
    """A step has failed, after `seconds`."""

    kind: ClassVar[str] = "failed"
    step: str
    fault: Fault
    seconds: float = 0.0


@dataclass(frozen=True)
class StepAbsence(_Event):
    """A step of the spec cannot run in this place, and is left out."""

    kind: ClassVar[str] = "absent"
    step: str
    reason: str


@dataclass(frozen=True)
class RunSilence(_Event):
    """Nothing has been heard of the run for a while. It may go on all the same."""

    kind: ClassVar[str] = "silent"
    reason: str


RunEvent: TypeAlias = StepStart | StepProgress | StepEnd | StepFailure | StepAbsence | RunSilence
_KINDS: dict[str, type[RunEvent]] = {
    kind.kind: kind for kind in (StepStart, StepProgress, StepEnd, StepFailure, StepAbsence, RunSilence)
}


def parse_event(document: Mapping[str, Any]) -> RunEvent:
    """Parse an event that `to_json` wrote. Raises KeyError for an unknown kind."""
    values = dict(document)
    kind = _KINDS[values.pop("event")]
    if kind is StepFailure:
        values["fault"] = Fault.from_json(values["fault"])
    return kind(**values)
