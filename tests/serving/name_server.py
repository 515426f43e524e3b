"""A small name server, so that the names of a cluster's Services mean addresses of loopback."""

from __future__ import annotations

import socket
import socketserver
import struct
import threading


class NameServer(socketserver.ThreadingUDPServer):
    """Answers A questions out of `addresses`; it knows no other kinds and names. `silent`: it says nothing."""

    daemon_threads = True

    def __init__(self) -> None:
        self.addresses: dict[str, list[str]] = {}
        self.silent = False

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                question, there = self.request
                if self.server.silent:
                    return
                there.sendto(answer(question, self.server.addresses), self.client_address)

        super().__init__(("127.0.0.1", 0), Handler)
        self.port = self.server_address[1]
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()


def answer(question: bytes, addresses: dict[str, list[str]]) -> bytes:
    labels, at = [], 12
    while length := question[at]:
        labels.append(question[at + 1 : at + 1 + length].decode())
        at += 1 + length
    end = at + 5
    kind = struct.unpack(">H", question[at + 1 : at + 3])[0]
    known = addresses.get(".".join(labels))
    found = known if known and kind == 1 else []
    head = question[:2] + struct.pack(">HHHHH", 0x8180 if known is not None else 0x8183, 1, len(found), 0, 0)
    records = [struct.pack(">HHHLH", 0xC00C, 1, 1, 1, 4) + socket.inet_aton(one) for one in found]
    return head + question[12:end] + b"".join(records)
