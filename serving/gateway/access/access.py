"""What a gateway is told of access, all together."""

from __future__ import annotations

from dataclasses import dataclass

from endcap_serving.gateway.access.policy import RANKINGS, Policy, Rate

LOCAL_HOSTS = ("localhost", "127.0.0.1", "[::1]")
"""The Host headers of whoever asks on this machine."""


@dataclass(frozen=True)
class Access:
    """Who may do what.

    origins: of the pages that may ask, such as https://shop.example.com; requests of other pages are refused. hosts:
    Host headers that are answered; empty: any. rate: of each client without one of its own; None: no limit.
    """

    policy: Policy = RANKINGS
    origins: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    rate: Rate | None = None

    @property
    def limited(self) -> bool:
        """Whether anybody is limited."""
        owners = [*self.policy.clients, *self.policy.issuers]
        return self.rate is not None or any(owner.rate for owner in owners)
