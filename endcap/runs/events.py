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
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        if isinstance(values.get("fault"), Fault):
            values["fault"] = values["fault"].to_json()
        return {"event": self.kind, **values}


@dataclass(frozen=True)
class Started(_Event):
    """A step has begun."""

    kind: ClassVar[str] = "started"
    step: str


@dataclass(frozen=True)
class Progress(_Event):
    """A step says how far it is."""

    kind: ClassVar[str] = "progress"
    step: str
    line: str


@dataclass(frozen=True)
class Done(_Event):
    """A step has ended well. result: an address, or a value such as a version. seconds: that the step took. reused:
    the result was there before the step began, and was not made again."""

    kind: ClassVar[str] = "done"
    step: str
    result: str = ""
    summary: str = ""
    seconds: float = 0.0
    reused: bool = False


@dataclass(frozen=True)
class Failed(_Event):
    """A step has failed. seconds: until it did."""

    kind: ClassVar[str] = "failed"
    step: str
    fault: Fault
    seconds: float = 0.0


@dataclass(frozen=True)
class Absent(_Event):
    """A step of the spec that this place cannot run."""

    kind: ClassVar[str] = "absent"
    step: str
    reason: str


@dataclass(frozen=True)
class Silent(_Event):
    """Nothing is known of the run for a while; it may well go on."""

    kind: ClassVar[str] = "silent"
    reason: str


Event: TypeAlias = Started | Progress | Done | Failed | Absent | Silent
_KINDS: dict[str, type[Event]] = {kind.kind: kind for kind in (Started, Progress, Done, Failed, Absent, Silent)}


def event_from_json(document: Mapping[str, Any]) -> Event:
    """The event that `to_json` wrote. Raises KeyError for an unknown kind."""
    values = dict(document)
    kind = _KINDS[values.pop("event")]
    if kind is Failed:
        values["fault"] = Fault.from_json(values["fault"])
    return kind(**values)
