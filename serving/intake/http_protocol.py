"""The intake's HTTP protocol: bounds on heads, and on the number of connections."""

from __future__ import annotations

from typing import Any

from endcap_serving.http_errors import RefusedError
from endcap_serving.http_protocol import BoundedProtocol, HeadBounds

MAX_HEAD = 32 << 10
HEAD_PATIENCE = 10.0
LINGER = 5.0
SPARE = 16
"""Connections past the limit that may still send a request: a probe of the intake's health is answered."""
PROBES = (b"/healthz", b"/readyz")


class IntakeProtocol(BoundedProtocol):
    """Refuses connections past `most`, but for probes."""

    most = 1000
    """Connections of the process; set it on a subclass."""
    bounds = HeadBounds(
        MAX_HEAD,
        HEAD_PATIENCE,
        RefusedError(
            431, f"the request's head is larger than {MAX_HEAD >> 10} KiB", code="intake.head-too-large", most=MAX_HEAD
        ),
        RefusedError(
            408,
            f"the request's head has not come within {HEAD_PATIENCE:.0f} s",
            code="intake.head-late",
            seconds=HEAD_PATIENCE,
        ),
        LINGER,
    )

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._is_over = len(self.connections) > self.most
        if len(self.connections) > self.most + SPARE:
            self.refuse(self._too_many(), linger=False)

    def check_head(self) -> RefusedError | None:
        if self._is_over and self.url not in PROBES:
            return super().check_head() or self._too_many()
        return super().check_head()

    def _too_many(self) -> RefusedError:
        return RefusedError(
            503,
            f"{self.most:,} connections are open; try again later",
            code="intake.connections-too-many",
            headers={"retry-after": "1"},
            most=self.most,
        )
