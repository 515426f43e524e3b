"""A real redis-server on loopback, which can be ended, started again and held up."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

READY = 60.0


class RedisServer:
    """Ends with `stop`, by its process. options: further ones of the program."""

    def __init__(self, folder: Path, *options: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}"
        self.folder, self._options = folder, options
        self.folder.mkdir(parents=True, exist_ok=True)
        self.start()

    def start(self) -> None:
        program = shutil.which("redis-server")
        if program is None:
            pytest.skip("no redis-server on the PATH: the store on a server is tested where there is one")
        place = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder), "--save", ""]
        command = [program, *place, *self._options]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        limit = time.monotonic() + READY
        # Refused for want of a password, the client would try again for seconds.
        with redis.Redis(port=self.port, retry=Retry(NoBackoff(), 0)) as client:
            while True:
                try:
                    client.ping()
                except redis.AuthenticationError:  # of one with a password
                    return
                except redis.ConnectionError:
                    assert time.monotonic() < limit, (self.folder / "log").read_text()
                    time.sleep(0.01)
                else:
                    return

    def stop(self) -> None:
        """End it at once; what it held is gone."""
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> RedisServer:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port)


class SlowProxy:
    """Hands bytes to the server at the port `target` and back.

    Answers take `delay` seconds more, or, with `drip`, come byte by byte.
    """

    def __init__(self, port: int) -> None:
        self.delay, self.drip = 0.0, 0.0
        self.target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self.target))
            except OSError:  # nobody listens there at the moment
                client.close()
                continue
            for source, sink, answers in ((client, server, False), (server, client, True)):
                threading.Thread(target=self._hand_on, args=(source, sink, answers), daemon=True).start()

    def _hand_on(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        with source, sink:
            try:
                while data := source.recv(65536):
                    if answers and self.delay:
                        time.sleep(self.delay)
                    if answers and self.drip:
                        for byte in data:
                            sink.sendall(bytes([byte]))
                            time.sleep(self.drip)
                    else:
                        sink.sendall(data)
            except OSError:
                return

    def close(self) -> None:
        self._listener.close()
