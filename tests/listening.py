"""The processes of this machine and the sockets that they listen on, read from /proc."""

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
class ListeningSocket:
    """A socket, and the command line of a process that has it open."""

    address: IPv4Address | IPv6Address
    port: int
    command: str

    @property
    def is_beyond_loopback(self) -> bool:
        mapped = getattr(self.address, "ipv4_mapped", None)
        return not (mapped or self.address).is_loopback


def read_parents() -> dict[int, int]:
    """Return the parent of each process of this machine, by the process's id."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, IndexError):
            parents[int(stat.parent.name)] = int(stat.read_bytes().rpartition(b")")[2].split()[1])
    return parents


def find_descendants(pid: int, parents: dict[int, int] | None = None) -> set[int]:
    """Return the processes that a process has started, those that these have started, and itself.

    Parameters
    ----------
    pid
        The process.
    parents
        What `read_parents` returned; None: it is read now.
    """
    parents = read_parents() if parents is None else parents
    family, count = {pid}, 0
    while len(family) != count:
        count = len(family)
        family |= {child for child, parent in parents.items() if parent in family}
    return family


def find_listening(pids: set[int]) -> set[ListeningSocket]:
    """Return the TCP sockets that these processes listen on."""
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
                sockets.add(_parse_socket(fields[1], owners[fields[9]]))
    return sockets


@contextlib.contextmanager
def on_loopback_alone(every: float = 0.1) -> Iterator[None]:
    """Check that this process and those that it starts listen on loopback alone while the block runs."""
    sockets: set[ListeningSocket] = set()
    commands: dict[int, str] = {}
    looks = 0
    end = threading.Event()

    def look() -> None:
        nonlocal looks
        while True:
            family = find_descendants(os.getpid())
            sockets.update(find_listening(family))
            commands.update({pid: _read_command(pid) for pid in family - set(commands)})
            looks += 1
            if end.wait(every):
                return

    with ThreadPoolExecutor(1) as pool:
        looking = pool.submit(look)
        try:
            yield
        finally:
            end.set()
        # An error of the looking thread is raised here.
        looking.result()
    assert sockets, f"{looks} looks saw no listening socket of the processes {commands}"
    assert [socket for socket in sockets if socket.is_beyond_loopback] == []


def _parse_socket(text: str, pid: int) -> ListeningSocket:
    host, _, port = text.partition(":")
    # Words of four bytes, each in the machine's order.
    raw = b"".join(bytes.fromhex(host[at : at + 8])[::-1] for at in range(0, len(host), 8))
    return ListeningSocket(ip_address(raw), int(port, 16), _read_command(pid))


def _read_command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace").replace("\0", " ")[:200]
    except OSError:
        return ""
