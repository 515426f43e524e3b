"""Requests whose end can be read in two ways, and frames of HTTP/2 that nobody asked for."""

from __future__ import annotations

import random
import struct

from tests.chaos.request import PATHS, PREFACE, Hostile, any_kind, ordinary


def lengths(chance: random.Random) -> Hostile:
    """Two readings of where a request ends; a second request hides behind the first."""
    kind = any_kind(chance)
    path, body = chance.choice(PATHS[kind]), ordinary(kind)
    hidden = b"GET /hidden HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"
    size = len(body)
    chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (size, body)
    head, payload = chance.choice(
        [
            (f"content-length: {size}\r\ntransfer-encoding: chunked", chunked + hidden),
            ("content-length: 4\r\ntransfer-encoding: chunked", b"0\r\n\r\n" + hidden),
            (f"content-length: {size}\r\ncontent-length: {size + len(hidden)}", body + hidden),
            (f"content-length: {size}, {size}", body + hidden),
            (f"content-length: +{size}", body),
            (f"content-length: {hex(size)}", body),
            (f"content-length: -{size}", body),
            ("content-length: 99999999999999999999999", body),
            (f"content-length : {size}", body),
            (f"content-length:\x0b{size}", body),
            ("transfer-encoding: xchunked", chunked + hidden),
            ("transfer-encoding: chunked\r\ntransfer-encoding: identity", chunked + hidden),
            ("transfer-encoding:\tchunked", chunked + hidden),
            ("transfer-encoding: gzip, chunked", chunked),
            ("transfer-encoding : chunked", chunked + hidden),
            ("transfer-encoding: chunked", b"ffffffffffffffff\r\n" + body),
            ("transfer-encoding: chunked", b"-1\r\n" + body),
            ("transfer-encoding: chunked", b"%x;%s\r\n%s\r\n0\r\n\r\n" % (size, b"e" * 20_000, body)),
            (
                "transfer-encoding: chunked",
                b"%x\r\n%s\r\n0\r\nhost: b\r\ncontent-length: 9\r\n\r\n" % (size, body) + hidden,
            ),
            ("transfer-encoding: chunked", b"%x\n%s\n0\n\n" % (size, body)),
            ("transfer-encoding: chunked", b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"),
        ]
    )
    return Hostile(
        "lengths",
        (f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n{head}\r\n\r\n".encode("latin-1") + payload,),
        then="half",
    )


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _literal(name: bytes, value: bytes) -> bytes:
    """A header of HTTP/2 as it is, without an index and without Huffman's code."""
    return b"\x00" + bytes([len(name)]) + name + bytes([min(len(value), 126)]) + value[:126]


def http2(chance: random.Random) -> Hostile:
    """HTTP/2 without having asked: sound requests, floods of resets and settings, and frames that are none."""
    body = ordinary("v1")
    head = b"".join(
        _literal(name, value)
        for name, value in {
            b":method": chance.choice([b"POST", b"GET", b"CONNECT", b""]),
            b":scheme": b"http",
            b":path": chance.choice([PATHS["v1"][0].encode(), b"", b"*", b"x"]),
            b":authority": b"127.0.0.1",
            chance.choice([b"content-type", b"Upper", b":odd", b"transfer-encoding", b"content-length"]): b"7",
        }.items()
    )
    settings = _frame(4, 0, 0, b"")
    frames = chance.choice(
        [
            settings + _frame(1, 4, 1, head) + _frame(0, 1, 1, body),
            settings
            + b"".join(_frame(1, 5, 2 * n + 1, head) + _frame(3, 0, 2 * n + 1, b"\0\0\0\x08") for n in range(100)),
            settings + settings * 500,
            settings + _frame(6, 0, 0, b"12345678") * 500,
            settings + _frame(1, 0, 1, head) + _frame(9, 0, 1, b"") * 200,
            settings + _frame(8, 0, 0, b"\x7f\xff\xff\xff") * 5,
            settings + _frame(chance.randrange(256), chance.randrange(256), chance.randrange(10), chance.randbytes(50)),
            _frame(0, 0, 1, b"x" * 20_000),
            chance.randbytes(200),
        ]
    )
    return Hostile("http2", (PREFACE + frames,), then=chance.choice(["half", "leave"]))
