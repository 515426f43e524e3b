"""The addresses that messages go to, and in which format each takes them.

An address is a secret: whoever knows a webhook may write to its channel. So it is never shown, and the store keeps a
digest of it alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from endcap.errors import UserError
from endcap.secrets import read_variable

VARIABLE = "ENDCAP_NOTIFY_URL"
"""The variable with the addresses, separated by blanks. In a cluster it is a key of the store's Secret."""
Format = Literal["slack", "json", "cloudevents"]
FORMATS: tuple[Format, ...] = get_args(Format)


@dataclass(frozen=True)
class MessageAddress:
    """Where messages go.

    Attributes
    ----------
    url
        The address, a secret.
    format
        What it takes.
    place
        Its place in the variable, from 1 on: its name for people.
    """

    url: str = field(repr=False)
    format: Format
    place: int

    @property
    def digest(self) -> str:
        """What the store knows it by."""
        return hashlib.sha256(f"{self.format} {self.url}".encode()).hexdigest()

    @property
    def name(self) -> str:
        """Its name in problems."""
        return f"address {self.place} of {VARIABLE}"


def read_addresses(environment: Mapping[str, str] | None = None) -> tuple[MessageAddress, ...]:
    """Read the addresses of a process.

    Each may begin with its format, as in ``json+https://…``; without one it takes Slack's JSON.

    Parameters
    ----------
    environment
        The variables; this process's environment by default.

    Raises
    ------
    UserError
        `messages.bad-address`: a part is no address of http or https, or its format is unknown.
    """
    addresses = []
    for place, word in enumerate(read_variable(VARIABLE, environment).split(" "), 1):
        if not word:
            continue
        chosen, plus, url = word.partition("+")
        if not plus or "://" in chosen:
            chosen, url = "slack", word
        if chosen not in FORMATS or not url.startswith(("https://", "http://")) or len(url.split("://")[1]) == 0:
            raise UserError(
                f"{VARIABLE}: the address at place {place} cannot be used; allowed: http:// or https://, after one of "
                f"{', '.join(f'{name}+' for name in FORMATS)} or nothing, such as json+https://example.com/hook",
                code="messages.bad-address",
                variable=VARIABLE,
                place=place,
                allowed=list(FORMATS),
            )
        addresses.append(MessageAddress(url, chosen, place))
    return tuple(addresses)
