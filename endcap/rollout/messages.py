"""Messages about a rollout: to whoever follows, and to an address that takes Slack's JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from endcap.experiments.log_entry import RolloutLogEntry
from endcap.secrets import read_variable

ADDRESS = "ENDCAP_NOTIFY_URL"
"""The variable with the address. It may hold a secret, as Slack's incoming webhooks do."""
_TIMEOUT = 5.0


@dataclass(frozen=True)
class RolloutMessage:
    """What happened to a rollout.

    Attributes
    ----------
    recommender, version
        What is rolled out.
    number
        The log's entry. A message that is sent again after a kill has the same number.
    phase, share, reason
        As in the state after the entry.
    sentence
        For a person.
    alert
        Whether a person should look.
    """

    recommender: str
    version: str
    number: int
    phase: str
    share: float
    reason: str
    sentence: str
    alert: bool

    def __str__(self) -> str:
        return f"rollout of {self.recommender} version {self.version}: {self.sentence}"

    def to_json(self) -> dict[str, Any]:
        """Return the message as JSON values; `text` is what Slack and its kin show."""
        fields = {"recommender": self.recommender, "version": self.version, "number": self.number}
        state = {"phase": self.phase, "share": self.share, "reason": self.reason, "alert": self.alert}
        return {"text": str(self), **fields, **state}


Notify = Callable[[RolloutMessage], None]


def describe_entry(entry: RolloutLogEntry) -> RolloutMessage | None:
    """Return the message of a log's entry; None where nothing changed that anyone must know."""
    before, after = entry.before, entry.after
    is_same = before is not None and (before.version, before.phase, before.share) == (
        after.version,
        after.phase,
        after.share,
    )
    alert = entry.decision is not None and entry.decision.alert
    if is_same and not alert:
        return None
    if entry.decision is not None:
        sentence = entry.decision.sentence
    elif entry.command is not None:
        why = f" ({entry.command.why})" if entry.command.why else ""
        sentence = f"{entry.command.action} by {entry.command.by}{why}."
    else:
        sentence = "The rollout begins."
    sentence = f"{sentence} It is {after.phase}, with {100 * after.share:.4g} % of the shoppers."
    return RolloutMessage(
        after.recommender, after.version, entry.number, after.phase, after.share, after.reason, sentence, alert
    )


def post_message(message: RolloutMessage) -> str:
    """Send a message to the address of `ENDCAP_NOTIFY_URL`, if there is one.

    Returns
    -------
    str
        Why it was not sent; empty if it was, or if there is no address. A message that does not arrive stops nothing:
        the log has what it says.
    """
    import httpx

    address = read_variable(ADDRESS)
    if not address:
        return ""
    try:
        body = json.dumps(message.to_json())
        answer = httpx.post(address, content=body, headers={"content-type": "application/json"}, timeout=_TIMEOUT)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return f"{type(error).__name__} at the address of {ADDRESS}"
    return "" if answer.is_success else f"status {answer.status_code} from the address of {ADDRESS}"
