"""All settings of a gateway's access in one value."""

from __future__ import annotations

from dataclasses import dataclass

from endcap_serving.gateway.access.policy import RANKINGS, Policy, Rate

LOCAL_HOSTS = ("localhost", "127.0.0.1", "[::1]")
"""The Host headers of requests from this machine."""


@dataclass(frozen=True)
class Access:
    """Who may do what.

    Parameters
    ----------
    policy
        The clients, their keys or tokens, and their scopes.
    origins
        Origins whose web pages may send requests, such as https://shop.example.com. The gateway refuses requests of
        other pages.
    hosts
        Host headers that the gateway answers; empty: any.
    rate
        The rate of each client without one of its own; None: no limit.
    """

    policy: Policy = RANKINGS
    origins: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    rate: Rate | None = None

    @property
    def has_limits(self) -> bool:
        """Whether any client has a limit."""
        owners = [*self.policy.clients, *self.policy.issuers]
        return self.rate is not None or any(owner.rate for owner in owners)
