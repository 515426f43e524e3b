"""Ways in which a Redis fails, each for the length of a block."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import threading
from collections.abc import Callable, Iterator

import redis

from tests.online.servers import RedisServer, SlowProxy

ONE_BAD_KEY = "one key of a wrong type"
NONSENSE = (b"$-5\r\n", b"*99999999\r\n", b"HTTP/1.1 400\r\n\r\n", b"\0" * 99)


class Faults:
    """Of a server that clients reach by a proxy. customer: the one who has the bad key."""

    def __init__(self, server: RedisServer, proxy: SlowProxy, chance: random.Random, customer: str) -> None:
        self._server, self._proxy, self._chance, self._customer = server, proxy, chance, customer

    def by_name(self) -> dict[str, Callable[[], contextlib.AbstractContextManager[None]]]:
        return {
            "killed": self._killed,
            "stopped": self._stopped,
            ONE_BAD_KEY: self._bad_key,
            "slow": self._slow,
            "byte by byte": self._dripping,
            "nonsense": self._nonsense,
            "full": lambda: self._configured("maxmemory", "1", "0"),
            "locked": lambda: self._configured("requirepass", "secret", ""),
            "read-only": self._replica,
            "emptied": self._emptied,
            "connections cut": self._cut,
        }

    @contextlib.contextmanager
    def _killed(self) -> Iterator[None]:
        self._server.stop()
        yield
        self._server.start()

    @contextlib.contextmanager
    def _stopped(self) -> Iterator[None]:
        pid = self._server.client().info("server")["process_id"]
        os.kill(pid, signal.SIGSTOP)
        yield
        os.kill(pid, signal.SIGCONT)

    @contextlib.contextmanager
    def _bad_key(self) -> Iterator[None]:
        with self._server.client() as client:
            keys = [key for key in client.scan_iter("*") if f"customer:{self._customer}".encode() in key]
            assert keys, "the customer has no key"
            for key in keys:
                client.delete(key)
                client.hset(key, mapping={"of another": "type"})
            yield
            client.delete(*keys)

    @contextlib.contextmanager
    def _slow(self) -> Iterator[None]:
        self._proxy.delay = 1.0
        yield
        self._proxy.delay = 0.0

    @contextlib.contextmanager
    def _dripping(self) -> Iterator[None]:
        self._proxy.drip = 0.03
        yield
        self._proxy.drip = 0.0

    @contextlib.contextmanager
    def _nonsense(self) -> Iterator[None]:
        target, chance = self._proxy.target, self._chance
        with socket.create_server(("127.0.0.1", 0)) as listener:

            def talk() -> None:
                with contextlib.suppress(OSError):
                    while True:
                        connection, _ = listener.accept()
                        with connection:
                            connection.recv(4096)
                            connection.sendall(
                                chance.choice([b"$-5\r\n", b"*99999999\r\n", b"HTTP/1.1 400\r\n\r\n", b"\0" * 99])
                            )

            threading.Thread(target=talk, daemon=True).start()
            self._proxy.target = listener.getsockname()[1]
            self._cut_all()
            yield
            self._proxy.target = target

    @contextlib.contextmanager
    def _configured(self, name: str, value: str, before: str) -> Iterator[None]:
        with self._server.client() as client:
            client.config_set("maxmemory-policy", "noeviction")
            client.config_set(name, value)
            if name == "requirepass":
                self._cut_all()
            yield
        with redis.Redis(port=self._server.port, password="secret" if name == "requirepass" else None) as client:
            client.config_set(name, before)

    @contextlib.contextmanager
    def _replica(self) -> Iterator[None]:
        with self._server.client() as client:
            client.execute_command("REPLICAOF", "127.0.0.1", "1")
            yield
            client.execute_command("REPLICAOF", "NO", "ONE")

    @contextlib.contextmanager
    def _emptied(self) -> Iterator[None]:
        with self._server.client() as client:
            client.flushall()
            yield

    @contextlib.contextmanager
    def _cut(self) -> Iterator[None]:
        over = threading.Event()

        def cut() -> None:
            while not over.wait(0.1):
                self._cut_all()

        thread = threading.Thread(target=cut, daemon=True)
        thread.start()
        yield
        over.set()
        thread.join()

    def _cut_all(self) -> None:
        with contextlib.suppress(redis.RedisError), self._server.client() as client:
            client.execute_command("CLIENT", "KILL", "TYPE", "NORMAL", "SKIPME", "YES")
