"""Sockets that a scheduler listens at."""

from __future__ import annotations

import socket

from endcap.errors import UserError


def listen(host: str, port: int, purpose: str) -> socket.socket:
    """Return a socket that listens. Raises UserError if the port cannot be used (`schedule.port-taken`)."""
    try:
        return socket.create_server((host, port))
    except OSError as error:
        raise UserError(
            f"port {port} of {host} cannot be used for {purpose} ({error.strerror}); give another, or 0 for any",
            code="schedule.port-taken",
            host=host,
            port=port,
            reason=error.strerror,
        ) from None
