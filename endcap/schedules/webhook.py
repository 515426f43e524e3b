"""The webhook that takes notifications of a bucket: it checks the sender's token, and wakes up the scheduler."""

from __future__ import annotations

import base64
import binascii
import hmac
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from endcap.errors import RequestError, UserError
from endcap.schedules.listening import listen
from endcap.schedules.notifications import NotificationDesk, parse_notifications
from endcap.secrets import read_variable

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

TOKEN = "ENDCAP_SCHEDULE_TOKEN"  # noqa: S105 - the variable's name
PATH = "/notifications"
LARGEST = 1 << 20
"""Bytes of a body. S3 sends at most 256 KiB at once."""
SHORTEST_TOKEN = 16


class NotificationWebhook:
    """Serves `POST /notifications` from its making to `close`, and `GET /notifications`: the counts.

    Parameters
    ----------
    desk
        Judges notifications.
    wake
        Called with the names of shops to look at, from another thread.
    host, port
        Where to listen; port 0: any free one.
    token
        What a sender must show: as a bearer token, or as the password of basic authentication (SNS has no other way).

    Attributes
    ----------
    address
        The webhook's URL.

    Raises
    ------
    UserError
        The port cannot be used.
    """

    def __init__(
        self, desk: NotificationDesk, wake: Callable[[set[str]], None], host: str, port: int, token: str
    ) -> None:
        # The server is imported when it is needed.
        import uvicorn

        self._desk, self._wake, self._token = desk, wake, token
        listener = listen(host, port, "notifications")
        self.address = f"http://{host}:{listener.getsockname()[1]}{PATH}"
        config = uvicorn.Config(
            self._build_app(), log_config=None, access_log=False, lifespan="off", ws="none", server_header=False
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [listener]}, name="webhook", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """End the server."""
        self._server.should_exit = True
        self._thread.join()

    def _build_app(self) -> Any:
        from starlette.applications import Starlette
        from starlette.routing import Route

        return Starlette(routes=[Route(PATH, self._answer, methods=["GET", "POST"])])

    async def _answer(self, request: Request) -> Response:
        from starlette.responses import JSONResponse

        counts = self._desk.counts
        if not is_allowed(request.headers, self._token):
            counts["forged"] += 1
            return JSONResponse({"error": {"code": "schedule.forged"}}, 401, {"www-authenticate": "Bearer"})
        if request.method == "GET":
            return JSONResponse(dict(counts))
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > LARGEST:
                counts["too-large"] += 1
                return JSONResponse({"error": {"code": "schedule.too-large", "fields": {"bytes": LARGEST}}}, 413)
        try:
            parsed = parse_notifications(request.headers, body)
        except RequestError as error:
            counts["malformed"] += 1
            return JSONResponse({"error": error.to_json()}, 400)
        if woken := self._desk.accept(parsed):
            self._wake(woken)
        return JSONResponse({"woken": sorted(woken)}, 202)


def read_token() -> str:
    """Read the token from the environment. Raises UserError if there is none, or a short one."""
    token = read_variable(TOKEN)
    if len(token) < SHORTEST_TOKEN:
        raise UserError(
            f"{TOKEN} must hold a token of at least {SHORTEST_TOKEN} characters, which senders of notifications show; "
            "make one: openssl rand -hex 16",
            code="schedule.no-token",
            variable=TOKEN,
        )
    return token


def is_allowed(headers: Mapping[str, str], token: str) -> bool:
    """Tell whether a request shows the token."""
    scheme, _, value = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            value = base64.b64decode(value, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return False
    elif scheme.lower() != "bearer":
        return False
    return hmac.compare_digest(value.strip().encode(), token.encode())
