"""Which sockets processes of this machine listen on, as the kernel says it."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

_LISTENING = "0A"


@dataclass(frozen=True)
class Listening:
    """A socket, and the command line of a process that has it open."""

    address: IPv4Address | IPv6Address
    port: int
    command: str

    @property
    def beyond_loopback(self) -> bool:
        mapped = getattr(self.address, "ipv4_mapped", None)
        return not (mapped or self.address).is_loopback


def descendants(pid: int) -> set[int]:
    """Processes that a process has started, and those that these have; itself too."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, IndexError):
            parents[int(stat.parent.name)] = int(stat.read_bytes().rpartition(b")")[2].split()[1])
    family, before = {pid}, 0
    while len(family) != before:
        before = len(family)
        family |= {child for child, parent in parents.items() if parent in family}
    return family


def listening(pids: set[int]) -> set[Listening]:
    """The TCP sockets that these processes listen on."""
    owners: dict[str, int] = {}
    for pid in pids:
        with contextlib.suppress(OSError):
            for fd in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    target = str(fd.readlink())
                    if target.startswith("socket:["):
                        owners[target[8:-1]] = pid
    sockets = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == _LISTENING and fields[9] in owners:
                sockets.add(_socket(fields[1], owners[fields[9]]))
    return sockets


@contextlib.contextmanager
def on_loopback_alone(every: float = 0.1) -> Iterator[None]:
    """This process and those that it starts listen on loopback alone while the block runs."""
    seen: set[Listening] = set()
    end = threading.Event()

    def look() -> None:
        while True:
            seen.update(listening(descendants(os.getpid())))
            if end.wait(every):
                return

    with ThreadPoolExecutor(1) as looking:
        looks = looking.submit(look)
        try:
            yield
        finally:
            end.set()
        # What went wrong there is raised here.
        looks.result()
    assert seen, "something listens"
    assert [socket for socket in seen if socket.beyond_loopback] == []


def _socket(place: str, pid: int) -> Listening:
    host, _, port = place.partition(":")
    # Words of four bytes, each in the machine's order.
    raw = b"".join(bytes.fromhex(host[at : at + 8])[::-1] for at in range(0, len(host), 8))
    try:
        command = Path(f"/proc/{pid}/cmdline").read_text(errors="replace").replace("\0", " ")[:200]
    except OSError:
        command = ""
    return Listening(ip_address(raw), int(port, 16), command)
