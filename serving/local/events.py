"""What happens while versions are served, as values. A person reads `str(event)`, a program `event.to_json()`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from endcap.errors import EndcapError

_CAPITAL = re.compile(r"(?<!^)(?=[A-Z])")


@dataclass(frozen=True)
class ServingEvent:
    """The base of all events.

    Attributes
    ----------
    event_name
        The event's name in JSON. Empty: the name follows from the class's name.
    """

    event_name: ClassVar[str] = ""

    def to_json(self) -> dict[str, Any]:
        """Describe the event for a program.

        Returns
        -------
        dict
            The event's name under `event`, such as ``predictor-failed``, and its fields as values that JSON can hold.
        """
        name = self.event_name or _CAPITAL.sub("-", type(self).__name__).lower()
        return {"event": name, **{field.name: _convert_to_json(getattr(self, field.name)) for field in fields(self)}}


Listener = Callable[[ServingEvent], None]
"""A function that is called with each event, from the supervising thread. `print` is one."""


@dataclass(frozen=True)
class StillLoading(ServingEvent):
    """The first version is not ready yet.

    Parameters
    ----------
    seconds
        Seconds since the start.
    """

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
    """An error ended serving."""

    event_name = "stopped"

    error: EndcapError

    def __str__(self) -> str:
        return f"serving stopped: {self.error}"


@dataclass(frozen=True)
class PredictorStarted(ServingEvent):
    """A predictor's process was started.

    Parameters
    ----------
    version
        The registered version.
    variant
        stable, canary, previous or shadow.
    pid
        The process's id.
    log
        The process's log.
    """

    version: str
    variant: str
    pid: int
    log: Path

    def __str__(self) -> str:
        return f"version {self.version} ({self.variant}) starts, process {self.pid}, log {self.log}"


@dataclass(frozen=True)
class PredictorReady(ServingEvent):
    """A predictor answers.

    Parameters
    ----------
    version, variant
        As for `PredictorStarted`.
    seconds
        Seconds since its start.
    """

    version: str
    variant: str
    seconds: float

    def __str__(self) -> str:
        return f"version {self.version} ({self.variant}) is ready after {self.seconds:.1f} s"


@dataclass(frozen=True)
class PredictorFailed(ServingEvent):
    """A predictor did not start, ended, or hung and was killed.

    Parameters
    ----------
    version, variant
        As for `PredictorStarted`.
    retry_in
        Seconds until it is started again.
    error
        Why it failed.
    """

    version: str
    variant: str
    retry_in: float
    error: EndcapError

    def __str__(self) -> str:
        retry, line = _format_retry(self.retry_in), _take_first_line(self.error)
        return f"version {self.version} ({self.variant}) failed, {retry}: {line}"


@dataclass(frozen=True)
class PredictorEnded(ServingEvent):
    """A predictor answered its last request and was ended."""

    version: str
    process: str

    def __str__(self) -> str:
        return f"version {self.version} ({self.process}) ended; it gets no more requests"


class ChallengerShare(NamedTuple):
    """A challenger of an A/B test that answers."""

    variant: str
    version: str
    share: float
    """Of the shoppers whom the baseline does not have, from 0 to 1."""


@dataclass(frozen=True)
class RoutesChanged(ServingEvent):
    """The gateway routes by a new split.

    Parameters
    ----------
    stable, canary, shadow, previous
        The version of each variant; None if there is none.
    share, previous_share
        Share of the shoppers whom the canary, or the previous version, answers, from 0 to 1.
    shadow_share
        Share of the requests that are copied to the shadow, from 0 to 1.
    baseline_share
        Share of all shoppers whom popularity answers, from 0 to 1; the other shares are of the rest.
    popularity_only
        Whether popularity answers everyone, whatever the shares are.
    challengers
        The challengers of an A/B test that answer.
    """

    event_name = "routed"

    stable: str
    canary: str | None = None
    share: float = 0.0
    shadow: str | None = None
    shadow_share: float = 0.0
    previous: str | None = None
    previous_share: float = 0.0
    baseline_share: float = 0.0
    popularity_only: bool = False
    challengers: tuple[ChallengerShare, ...] = ()

    def __str__(self) -> str:
        if self.popularity_only:
            return "popularity answers everyone"
        if not self.baseline_share:
            return self._describe_versions(" of the shoppers")
        popularity = f"popularity answers {_format_percent(self.baseline_share)} of the shoppers"
        return f"{popularity}; of the others {self._describe_versions('')}"

    def _describe_versions(self, of: str) -> str:
        copies = ""
        if self.shadow is not None:
            copies = (
                f"; version {self.shadow} (shadow) gets copies of {_format_percent(self.shadow_share)} of the requests"
            )
        arms = ((self.canary, "canary", self.share), (self.previous, "previous", self.previous_share))
        arms += tuple((beside.version, beside.variant, beside.share) for beside in self.challengers)
        shares = [
            f"version {version} ({arm}) {_format_percent(share)}" for version, arm, share in arms if version is not None
        ]
        if not shares:
            return f"version {self.stable} (stable) answers everyone{copies}"
        tested = sum(beside.share for beside in self.challengers)
        stable = f"{_format_percent(1 - self.share - self.previous_share - tested)}{of}"
        return f"version {self.stable} (stable) answers {', '.join([stable, *shares])}{copies}"


@dataclass(frozen=True)
class StateUnreadable(ServingEvent):
    """The desired state cannot be read. What was routed before stays."""

    error: EndcapError

    def __str__(self) -> str:
        return f"the desired state cannot be read; the versions before stay: {self.error}"


@dataclass(frozen=True)
class AccessNotFollowed(ServingEvent):
    """The access policy cannot be used as it is now. The last good one stays."""

    error: EndcapError

    def __str__(self) -> str:
        return f"the access policy cannot be used; the last good one stays: {self.error}"


@dataclass(frozen=True)
class RolloutChanged(ServingEvent):
    """A rollout has got another share or phase, or a person should look at it.

    Parameters
    ----------
    version, phase, share
        As in the rollout's state.
    sentence
        Why.
    unsent
        Why messages to `ENDCAP_NOTIFY_URL` do not arrive at present; empty if they do, or if there is no address. They
        are tried again.
    """

    version: str
    phase: str
    share: float
    sentence: str
    unsent: str = ""

    def __str__(self) -> str:
        unsent = f" (messages do not arrive: {self.unsent})" if self.unsent else ""
        return f"rollout of version {self.version}: {self.sentence}{unsent}"


@dataclass(frozen=True)
class AbChanged(ServingEvent):
    """Shoppers have moved in an A/B test, a version has left it, it began or ended, or a person should look at it.

    Parameters
    ----------
    kind
        Of the message, such as `ab.moved`.
    shares
        Of each version that shoppers meet, 0 to 1.
    sentence
        Why.
    unsent
        As in `RolloutChanged`.
    """

    kind: str
    shares: Mapping[str, float]
    sentence: str
    unsent: str = ""

    def __str__(self) -> str:
        unsent = f" (messages do not arrive: {self.unsent})" if self.unsent else ""
        return f"A/B test: {self.sentence}{unsent}"


@dataclass(frozen=True)
class RolloutTroubled(ServingEvent):
    """A look at the rollout failed. Shares stay as they are, and the next look follows."""

    error: EndcapError

    def __str__(self) -> str:
        return f"the rollout cannot be looked at; shares stay as they are: {_take_first_line(self.error)}"


@dataclass(frozen=True)
class GatewayFailed(ServingEvent):
    """Envoy ended, hung and was killed, or lost its folder. It is started again at once."""

    error: EndcapError

    def __str__(self) -> str:
        return f"the gateway failed and is started again: {_take_first_line(self.error)}"


@dataclass(frozen=True)
class GatewayNotRestarted(ServingEvent):
    """Envoy could not be started again, for example because its port is taken. The next try follows."""

    error: EndcapError

    def __str__(self) -> str:
        return f"the gateway cannot be started again yet: {_take_first_line(self.error)}"


@dataclass(frozen=True)
class PartFailed(ServingEvent):
    """A part of the supervisor's work failed, such as giving the gateway a new share. It is tried again.

    Predictors and gateway go on meanwhile. The event comes once, until the error changes or `PartRecovered` follows.
    """

    event_name = "troubled"

    part: str
    error: EndcapError

    def __str__(self) -> str:
        return f"{self.part}: this failed and is tried again: {_take_first_line(self.error)}"


@dataclass(frozen=True)
class PartRecovered(ServingEvent):
    """A part of the supervisor's work succeeds again.

    Parameters
    ----------
    part
        The part, as in `PartFailed`.
    seconds
        Seconds since it first failed.
    """

    event_name = "recovered"

    part: str
    seconds: float

    def __str__(self) -> str:
        return f"{self.part}: this works again after {self.seconds:.0f} s"


@dataclass(frozen=True)
class ListFailed(ServingEvent):
    """The list server's thread has ended. It is started again at once."""

    def __str__(self) -> str:
        return "the list server has ended and is started again"


@dataclass(frozen=True)
class IntakeFailed(ServingEvent):
    """The intake's process ended, or hung and was killed.

    Parameters
    ----------
    retry_in
        Seconds until it is started again.
    error
        Why it failed.
    """

    retry_in: float
    error: EndcapError

    def __str__(self) -> str:
        return f"the intake failed, {_format_retry(self.retry_in)}: {_take_first_line(self.error)}"


def _format_retry(seconds: float) -> str:
    """Format when the next try comes."""
    return f"next try in {seconds:.0f} s" if seconds else "next try at once"


def _format_percent(share: float) -> str:
    """Format a share from 0 to 1 as a percentage."""
    return f"{100 * share:.4g} %"


def _take_first_line(error: EndcapError) -> str:
    """Return the first line of an error's text."""
    return str(error).splitlines()[0]


def _convert_to_json(value: Any) -> Any:
    """Convert a field's value to one that JSON can hold."""
    if isinstance(value, EndcapError):
        return value.to_json()
    if isinstance(value, tuple):
        return [item._asdict() if isinstance(item, ChallengerShare) else item for item in value]
    return str(value) if isinstance(value, Path) else value
