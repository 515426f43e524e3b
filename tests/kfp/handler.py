"""How a KFP on loopback is asked: paths, logins, and trouble on the way."""

from __future__ import annotations

import copy
import json
import urllib.parse
from email.message import Message
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

from tests.kfp.refusals import RefusedError

if TYPE_CHECKING:
    from tests.kfp.server import Kfp

PROXY = "/api/v1/namespaces/kubeflow/services/ml-pipeline:http/proxy"
"""The way to KFP through the API server of the cluster that it is installed in."""
LOGIN = "/dex/auth"
LOGIN_PAGE = "<!DOCTYPE html><html><head><title>Log in to dex</title></head><body><form></form></body></html>"


def handler(kfp: Kfp) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # an answer is two writes

        def _any(self) -> None:
            parts = urllib.parse.urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            where = f"{self.command} {parts.path.removeprefix(kfp.prefix)}"
            kfp.requests.append(where)
            try:
                kind, _, token = (self.headers.get("authorization") or "").partition(" ")
                authenticated = kind == "Bearer" and token in (kfp.token, *kfp.rules.users)
                authenticated = authenticated or kfp.token in (
                    None,
                    (self.headers.get("cookie") or "").removeprefix("session="),
                )
                if kfp.login_page and (parts.path == LOGIN or not authenticated):
                    self._page(parts.path)
                    return
                if not authenticated:
                    raise RefusedError(401, "Unauthenticated: the request has no valid token")
                if not parts.path.startswith(f"{kfp.prefix}/apis/"):
                    raise RefusedError(404, "the server could not find the requested resource")
                for one in kfp.trouble:
                    if one[0] in where:
                        kfp.trouble.remove(one)
                        if one[1] == 0:
                            self._drop()
                            return
                        raise RefusedError(one[1], "the server is being restarted")
                query = dict(urllib.parse.parse_qsl(parts.query))
                path, status = parts.path.removeprefix(kfp.prefix), 200
                sent = _body(body, self.headers.get("Content-Type", ""))
                for part in kfp.late:
                    if part in where:
                        kfp.late.remove(part)
                        kfp.held.append((self.command, path, query, sent))
                        self._drop()
                        return
                with kfp.lock:
                    kfp.user = kfp.rules.users.get(token)
                    for part in kfp.rivals:
                        if where.endswith(part):
                            kfp.rivals.remove(part)
                            kfp.answer(self.command, path, query, copy.deepcopy(sent))
                            break
                    answer = kfp.answer(self.command, path, query, sent)
                for part in kfp.lost:
                    if part in where:
                        kfp.lost.remove(part)
                        self._drop()
                        return
            except RefusedError as error:
                answer, status = {"code": 3, error.key: error.message}, error.status
            text = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def _page(self, path: str) -> None:
            """The login: a redirection to it, or the page itself."""
            text = LOGIN_PAGE.encode() if path == LOGIN else b""
            self.send_response(200 if text else 302)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            if not text:
                self.send_header("Location", f"{LOGIN}?client_id=kubeflow")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def _drop(self) -> None:
            """Close the connection without an answer."""
            self.close_connection = True
            self.connection.close()

        def log_message(self, *arguments: Any) -> None:
            pass

        do_GET = do_POST = do_DELETE = _any

    return Handler


def _body(body: bytes, kind: str) -> Any:
    """JSON, or the file of a form."""
    if not kind.startswith("multipart/"):
        return json.loads(body) if body else {}
    message: Message = BytesParser().parsebytes(f"Content-Type: {kind}\r\n\r\n".encode() + body)
    for part in message.get_payload():
        if part.get_param("name", header="content-disposition") == "uploadfile":  # type: ignore[union-attr]
            return part.get_payload(decode=True)  # type: ignore[union-attr]
    raise RefusedError(400, "no uploadfile in the form")
