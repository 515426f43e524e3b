"""What happens while versions are served, as values: a person reads `str(event)`, a program `event.to_json()`."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

from endcap.errors import EndcapError

_CAPITAL = re.compile(r"(?<!^)(?=[A-Z])")


@dataclass(frozen=True)
class ServingEvent:
    """Base of all events."""

    event_name: ClassVar[str] = ""
    """The name in JSON; left out, it follows from the class name."""

    def to_json(self) -> dict[str, Any]:
        """The event's name under `event`, such as ``predictor-failed``, and its fields as values that JSON can hold."""
        name = self.event_name or _CAPITAL.sub("-", type(self).__name__).lower()
        return {"event": name, **{field.name: _convert_to_json(getattr(self, field.name)) for field in fields(self)}}


Listener = Callable[[ServingEvent], None]
"""Is called with each event, from the thread that supervises. `print` is one."""


@dataclass(frozen=True)
class StillLoading(ServingEvent):
    """The first version is not ready yet. seconds: since the start."""

    event_name = "loading"

    seconds: float

    def __str__(self) -> str:
        return f"still loading after {self.seconds:.0f} s"


@dataclass(frozen=True)
class ServingStarted(ServingEvent):
    """The gateway answers at an address."""

    event_name = "served"

    recommender: str
    address: str

    def __str__(self) -> str:
        return f"{self.recommender} is served at {self.address}; Ctrl-C ends it"


@dataclass(frozen=True)
class ServingStopped(ServingEvent):
    """Serving ended by an error."""

    event_name = "stopped"

    error: EndcapError

    def __str__(self) -> str:
        return f"serving stopped: {self.error}"


@dataclass(frozen=True)
class PredictorStarted(ServingEvent):
    """A predictor's process runs. variant: stable, canary or shadow."""

    version: str
    variant: str
    pid: int
    log: Path

    def __str__(self) -> str:
        return f"version {self.version} ({self.variant}) starts, process {self.pid}, log {self.log}"


@dataclass(frozen=True)
class PredictorReady(ServingEvent):
    """A predictor answers. seconds: since its start."""

    version: str
    variant: str
    seconds: float

    def __str__(self) -> str:
        return f"version {self.version} ({self.variant}) is ready after {self.seconds:.1f} s"


@dataclass(frozen=True)
class PredictorFailed(ServingEvent):
    """A predictor did not start, died, or hung and was killed. retry_in: seconds until it is started again."""

    version: str
    variant: str
    retry_in: float
    error: EndcapError

    def __str__(self) -> str:
        retry, line = _format_retry(self.retry_in), _take_first_line(self.error)
        return f"version {self.version} ({self.variant}) failed, {retry}: {line}"


@dataclass(frozen=True)
class PredictorEnded(ServingEvent):
    """A predictor has answered its last request and was ended."""

    version: str
    process: str

    def __str__(self) -> str:
        return f"version {self.version} ({self.process}) ended, no request goes to it any more"


@dataclass(frozen=True)
class RoutesChanged(ServingEvent):
    """The gateway routes so from now on.

    Versions by variant, None where there is none. share: of the shoppers, whom the canary answers; shadow_share: of
    the requests, copied to the shadow. Both are from 0 to 1.
    """

    event_name = "routed"

    stable: str
    canary: str | None = None
    share: float = 0.0
    shadow: str | None = None
    shadow_share: float = 0.0

    def __str__(self) -> str:
        copies = ""
        if self.shadow is not None:
            copies = (
                f"; version {self.shadow} (shadow) gets copies of {_format_percent(self.shadow_share)} of the requests"
            )
        if self.canary is None:
            return f"version {self.stable} (stable) answers everyone{copies}"
        return (
            f"version {self.stable} (stable) answers {_format_percent(1 - self.share)} of the shoppers, "
            f"version {self.canary} (canary) {_format_percent(self.share)}{copies}"
        )


@dataclass(frozen=True)
class StateUnreadable(ServingEvent):
    """The desired state is damaged or gone; what was routed before stays."""

    error: EndcapError

    def __str__(self) -> str:
        return f"the desired state cannot be read, going on as before: {self.error}"


@dataclass(frozen=True)
class AccessNotFollowed(ServingEvent):
    """The access policy cannot be used as it is now; the last good one holds."""

    error: EndcapError

    def __str__(self) -> str:
        return f"the access policy is not followed, the last good one holds: {self.error}"


@dataclass(frozen=True)
class GatewayFailed(ServingEvent):
    """Envoy died, hung and was killed, or can be told nothing any more; it is started again at once."""

    error: EndcapError

    def __str__(self) -> str:
        return f"the gateway failed and is started again: {_take_first_line(self.error)}"


@dataclass(frozen=True)
class GatewayNotRestarted(ServingEvent):
    """Envoy died and did not come back, as where its port is taken for a moment; the next try follows."""

    error: EndcapError

    def __str__(self) -> str:
        return f"the gateway cannot be started again yet: {_take_first_line(self.error)}"


@dataclass(frozen=True)
class PartFailed(ServingEvent):
    """A part of the supervisor's work failed, such as telling the gateway of a new share; it is tried again.

    What serves goes on serving. It is told once, until the error is another one or `PartRecovered` follows.
    """

    event_name = "troubled"

    part: str
    error: EndcapError

    def __str__(self) -> str:
        return f"{self.part}: failed and is tried again: {_take_first_line(self.error)}"


@dataclass(frozen=True)
class PartRecovered(ServingEvent):
    """What failed goes well again. seconds: since it first failed."""

    event_name = "recovered"

    part: str
    seconds: float

    def __str__(self) -> str:
        return f"{self.part}: well again after {self.seconds:.0f} s"


@dataclass(frozen=True)
class ListFailed(ServingEvent):
    """The list server's thread has ended; it is started again at once."""

    def __str__(self) -> str:
        return "the list server has ended and is started again"


@dataclass(frozen=True)
class IntakeFailed(ServingEvent):
    """The intake's process died, or hung and was killed. retry_in: seconds until it is started again."""

    retry_in: float
    error: EndcapError

    def __str__(self) -> str:
        return f"the intake failed, {_format_retry(self.retry_in)}: {_take_first_line(self.error)}"


def _format_retry(seconds: float) -> str:
    return f"next try in {seconds:.0f} s" if seconds else "next try at once"


def _format_percent(share: float) -> str:
    return f"{100 * share:.4g} %"


def _take_first_line(error: EndcapError) -> str:
    return str(error).splitlines()[0]


def _convert_to_json(value: Any) -> Any:
    if isinstance(value, EndcapError):
        return value.to_json()
    return str(value) if isinstance(value, Path) else value
