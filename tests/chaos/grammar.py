"""A seeded grammar of hostile requests, as bytes on a connection."""

from __future__ import annotations

import random
from collections.abc import Callable
from urllib.parse import quote

from tests.chaos import bodies
from tests.chaos.framing import http2, lengths
from tests.chaos.request import NAME, PATHS, Hostile, any_kind, ordinary, post

OTHER_PATHS = [
    "/",
    "/metrics",
    "/docs",
    "/openapi.json",
    "/v1/models",
    f"/v1/models/{NAME}",
    "/v2",
    "/v2/health/ready",
    "/readyz",
]
METHODS = [
    "GET",
    "PUT",
    "DELETE",
    "PATCH",
    "OPTIONS",
    "HEAD",
    "TRACE",
    "CONNECT",
    "PRI",
    "post",
    "BREW",
    "P" * 300,
    "PO ST",
    "\x00",
]


def made(chance: random.Random) -> Hostile:
    """Any, the common ones more often."""
    names, weights = zip(*_WEIGHTS.items(), strict=True)
    return chance.choices(names, weights)[0](chance)


def _body(chance: random.Random) -> Hostile:
    kind = any_kind(chance)
    how, body = bodies.hostile(kind, chance)
    return Hostile(f"body {how}", (post(chance.choice(PATHS[kind]), body),))


def _method(chance: random.Random) -> Hostile:
    path = chance.choice([*PATHS[any_kind(chance)], *OTHER_PATHS, "*", "127.0.0.1:80"])
    body = b"" if chance.random() < 0.5 else ordinary("v1")
    version = chance.choice(["1.1", "1.1", "1.0", "0.9", "2.0", "9.9", "1.1 ", "x"])
    return Hostile("method", (post(path, body, method=chance.choice(METHODS), version=version),), then="half")


def _path(chance: random.Random) -> Hostile:
    piece = chance.choice(
        [
            "..",
            "%2e%2e",
            "%00",
            "%ff",
            "//",
            ";a=b",
            "?" + "x=1&" * 200,
            "#f",
            "\\",
            "%",
            "%zz",
            "ü",
            "a" * 5000,
            " ",
            "\t",
            "%2f",
            "..%2f..%2fetc%2fpasswd",
            quote(chr(chance.randrange(32, 0xD7FF))),
            "admin",
            "config_dump",
            ":predict",
            "infer",
        ]
    )
    path = chance.choice(PATHS[any_kind(chance)])
    at = chance.randrange(1, len(path) + 1)
    whole = chance.choice(
        [path[:at] + piece + path[at:], path.replace(NAME, piece), f"http://evil.example{path}", piece, path[1:]]
    )
    return Hostile("path", (post(whole, ordinary("v1")),), then="half")


def _headers(chance: random.Random) -> Hostile:
    odd = chance.choice(
        [
            *[f"x-flood-{n}: y\r\n" * n for n in (50, 150, 1000)],
            "x-large: " + "y" * chance.choice([4000, 30_000, 100_000]) + "\r\n",
            "no colon\r\n",
            ": no name\r\n",
            "x-folded: a\r\n b\r\n",
            "x-nul: a\x00b\r\n",
            "x bad name: 1\r\n",
            "x-high: \xff\xfe\r\n",
            "host: other.example\r\n",
            "expect: 100-continue\r\n",
            "expect: nonsense\r\n",
            "upgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-key: x\r\n",
            "upgrade: h2c\r\nconnection: upgrade, http2-settings\r\nhttp2-settings: AAMAAABk\r\n",
            "connection: content-length, host\r\n",
            "x-endcap-shopper: " + "s" * 3000 + "\r\n",
            "x-endcap-variant: canary\r\nx-endcap-scope: rank,events,explain,owned\r\nx-endcap-client: root\r\n",
            "x-envoy-upstream-rq-timeout-ms: 1\r\nx-envoy-retry-on: 5xx\r\nx-envoy-max-retries: 1000\r\n",
            "x-forwarded-for: " + ", ".join(["10.0.0.1"] * 500) + "\r\nx-forwarded-proto: gopher\r\n",
            "x-request-id: " + chance.choice(["\"'<>", "a" * 3000, "\t", "é"]) + "\r\n",
            "traceparent: 00-" + "f" * 500 + "\r\n",
            "range: bytes=0-,5-,-1\r\nif-none-match: *\r\n",
            "accept-encoding: " + "gzip," * 1000 + "\r\n",
            "authorization: Bearer " + "a.b.c" * 1000 + "\r\n",
            "inference-header-content-length: " + chance.choice(["-1", "99999999999", "x", "0"]) + "\r\n",
        ]
    )
    kind = any_kind(chance)
    whole = post(chance.choice(PATHS[kind]), ordinary(kind))
    at = whole.index(b"\r\n") + 2
    return Hostile("headers", (whole[:at] + odd.encode("latin-1") + whole[at:],), then="half")


def _encoding(chance: random.Random) -> Hostile:
    kind = any_kind(chance)
    headers = {
        "content-type": chance.choice(
            [
                "application/json",
                "text/plain",
                "multipart/form-data; boundary=x",
                "application/octet-stream",
                "x",
                "a/" * 500,
                "application/json; charset=utf-7",
                "application/x-www-form-urlencoded",
            ]
        ),
        "content-encoding": chance.choice(["gzip", "br", "deflate", "zstd", "identity", "gzip, gzip", "x" * 500]),
    }
    return Hostile("encoding", (post(chance.choice(PATHS[kind]), ordinary(kind), headers),))


def _cut(chance: random.Random) -> Hostile:
    """A request that ends in its midst, and a client that leaves, or says that it sends no more."""
    kind = any_kind(chance)
    whole = post(chance.choice(PATHS[kind]), ordinary(kind))
    return Hostile("cut", (whole[: chance.randrange(len(whole))],), then=chance.choice(["half", "leave", "leave"]))


def _pipelined(chance: random.Random) -> Hostile:
    requests = []
    for _ in range(chance.randrange(2, 30)):
        kind = any_kind(chance)
        requests.append(
            post(
                chance.choice(PATHS[kind]),
                bodies.hostile(kind, chance)[1] if chance.random() < 0.3 else ordinary(kind),
            )
        )
    return Hostile("pipelined", (b"".join(requests),), then=chance.choice(["half", "leave"]))


def _large(chance: random.Random) -> Hostile:
    size = chance.choice([1 << 20, (4 << 20) + 1, 17 << 20])
    path = chance.choice(PATHS[any_kind(chance)])
    return Hostile("large", (post(path, b'{"instances":[' + b" " * size + b"]}"),), then="half")


def _slow(chance: random.Random) -> Hostile:
    """A head or a body that comes byte by byte; seldom for as long as it is let."""
    kind = any_kind(chance)
    whole = post(chance.choice(PATHS[kind]), ordinary(kind))
    begin = chance.choice([10, whole.index(b"\r\n\r\n") + 10])
    count, then = chance.choice([(60, "read"), *[(15, "half")] * 9])
    pieces = (whole[at : at + 1] for at in range(begin, min(begin + count, len(whole))))
    return Hostile("slow", (whole[:begin], *pieces), pause=0.3, then=then)


def _bytes(chance: random.Random) -> Hostile:
    """No HTTP at all."""
    data = chance.choice(
        [
            b"",
            b"\r\n" * 500,
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + chance.randbytes(300),
            chance.randbytes(chance.randrange(1, 5000)),
            b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n" + post(PATHS["v1"][0], ordinary("v1")),
            b"\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a" + b"\x21\x11\x00\x0c" + bytes(12),
            b"*1\r\n$7\r\nCOMMAND\r\n",
            b"\0" * 10_000,
            b"GET /" + b"a" * 70_000,
        ]
    )
    return Hostile("bytes", (data,), then=chance.choice(["half", "half", "leave"]))


_WEIGHTS: dict[Callable[[random.Random], Hostile], float] = {
    _body: 50,
    _headers: 9,
    _path: 8,
    lengths: 8,
    _method: 6,
    _encoding: 5,
    _cut: 5,
    _bytes: 3,
    http2: 3,
    _pipelined: 2,
    _large: 0.4,
    _slow: 0.3,
}
