"""The intake's HTTP protocol: bounds on request heads and on the number of connections."""

from __future__ import annotations

from typing import Any

from endcap_serving.http_errors import RefusedError
from endcap_serving.http_protocol import BoundedProtocol, HeadBounds

MAX_HEAD = 32 << 10
"""Bytes of a request line and its headers together."""
HEAD_PATIENCE = 10.0
"""Seconds that a head may take to arrive."""
LINGER = 5.0
"""Seconds for which a refused connection is still read, so that its client can read the answer."""
SPARE = 16
"""Connections past the limit that may still send a request, so that a probe of the intake's health is answered."""
PROBES = (b"/healthz", b"/readyz")
"""Paths that are answered past the limit."""


class IntakeProtocol(BoundedProtocol):
    """Refuses connections past a limit, except for probes.

    uvicorn makes the instances, so a server sets the limit on a subclass.

    Attributes
    ----------
    max_connections
        Connections that the process serves at a time.
    """

    max_connections = 1000
    bounds = HeadBounds(
        MAX_HEAD,
        HEAD_PATIENCE,
        RefusedError(
            431,
            f"the request's head: found more than {MAX_HEAD >> 10} KiB; allowed: at most {MAX_HEAD >> 10} KiB",
            code="intake.head-too-large",
            most=MAX_HEAD,
        ),
        RefusedError(
            408,
            f"the request's head did not arrive within {HEAD_PATIENCE:.0f} s; send it without a pause",
            code="intake.head-late",
            seconds=HEAD_PATIENCE,
        ),
        LINGER,
    )

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._is_over = len(self.connections) > self.max_connections
        if len(self.connections) > self.max_connections + SPARE:
            self.refuse(self._make_limit_error(), linger=False)

    def check_head(self) -> RefusedError | None:
        if self._is_over and self.url not in PROBES:
            return super().check_head() or self._make_limit_error()
        return super().check_head()

    def _make_limit_error(self) -> RefusedError:
        """Make the answer to a connection past the limit."""
        return RefusedError(
            503,
            f"{self.max_connections:,} connections are open already; try again later",
            code="intake.connections-too-many",
            headers={"retry-after": "1"},
            most=self.max_connections,
        )
