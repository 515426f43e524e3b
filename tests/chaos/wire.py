"""Sending bytes on a connection of one's own, and what comes back within a time."""

from __future__ import annotations

import contextlib
import re
import socket
import struct
import time
from dataclasses import dataclass

from tests.chaos.request import PREFACE, Hostile

QUIET, QUIET_AFTER_AN_ANSWER = 1.0, 0.1
"""Seconds without a byte from the server after which a client says that it sends no more."""
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3}) ")
_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)
STATUS_500 = 0x80 | 14
"""`:status: 500` in the static table of HTTP/2's headers, as its one byte."""


@dataclass(frozen=True)
class Answer:
    """statuses: of all answers on the connection. outcome: answered, closed (by the server, also in the midst of
    what was sent), left (by the client), late (neither within the time), refused (no connection)."""

    statuses: tuple[int, ...]
    outcome: str
    seconds: float


def send(host: str, port: int, request: Hostile, bound: float) -> Answer:
    """Send a request and look at what comes of it, for at most `bound` seconds after the last byte was sent."""
    begun = time.monotonic()
    try:
        connection = socket.create_connection((host, port), timeout=bound)
    except OSError:
        return Answer((), "refused", time.monotonic() - begun)
    with connection:
        _send(connection, request)
        if request.then == "leave":
            with contextlib.suppress(OSError):
                # A reset, as of a client that is killed.
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return Answer((), "left", time.monotonic() - begun)
        received, outcome = _receive(connection, request.then == "half", bound)
    binary = b"".join(request.pieces).startswith(PREFACE)
    statuses = _of_http2(received) if binary else tuple(int(each) for each in _STATUS.findall(received))
    return Answer(statuses, outcome, time.monotonic() - begun)


def _send(connection: socket.socket, request: Hostile) -> None:
    try:
        for piece in request.pieces:
            connection.sendall(piece)
            if request.pause:
                time.sleep(request.pause)
    except OSError:
        pass  # The server has had enough, and says or said why.


def _receive(connection: socket.socket, half: bool, bound: float) -> tuple[bytes, str]:
    """What is received until one answer is whole (half: until the server closes), and how that ended."""
    received, deadline = b"", time.monotonic() + bound
    connection.settimeout(QUIET)
    said = False
    while time.monotonic() < deadline:
        try:
            data = connection.recv(1 << 16)
        except TimeoutError:
            if half and not said:
                said = True
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_WR)
            continue
        except OSError:
            return received, "closed"
        if not data:
            return received, "closed"
        received += data
        connection.settimeout(QUIET_AFTER_AN_ANSWER if half else QUIET)
        if not half and _whole(received):
            return received, "answered"
    return received, "late"


def _whole(received: bytes) -> bool:
    head, separator, body = received.partition(b"\r\n\r\n")
    length = _LENGTH.search(head + b"\r\n")
    return bool(separator) and (len(body) >= int(length[1]) if length else body.endswith(b"0\r\n\r\n"))


def _of_http2(received: bytes) -> tuple[int, ...]:
    """500 for each answer whose head says so by the table's byte; other statuses are not read."""
    statuses, at = [], 0
    while at + 9 <= len(received):
        length, kind = int.from_bytes(received[at : at + 3], "big"), received[at + 3]
        payload = received[at + 9 : at + 9 + length]
        if kind == 1 and payload.lstrip(b"\x3f\x20")[:1] == bytes([STATUS_500]):
            statuses.append(500)
        at += 9 + length
    return tuple(statuses)
