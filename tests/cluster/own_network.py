"""Run a program in a network of its own: ``python -I -S own_network.py [--out PORT]… [--in PORT]… -- COMMAND…``

Programs that are made for a pod bind fixed ports on every address: two of Knative's want 8080. Here each gets a network
namespace whose only interface is a loopback of its own. Inside, 127.0.0.1:PORT of every ``--out`` leads to the same
port of this machine's loopback (the API server); outside, that of every ``--in`` leads to the program (its webhook). So
nothing is open to another machine, and two test clusters can run beside each other.

A socket belongs to the namespace in which it was made and can be handed to another process: one process inside and one
outside hold each other's listeners and copy bytes. Needs Linux and either root or user namespaces: see `why_not`.
"""

from __future__ import annotations

import argparse
import array
import ctypes
import fcntl
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

_CLONE_NEWNS, _CLONE_NEWUSER, _CLONE_NEWNET = 0x20000, 0x10000000, 0x40000000
_MS_BIND, _MS_REC, _MS_PRIVATE = 0x1000, 0x4000, 0x40000
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 0x1
_PR_SET_PDEATHSIG = 1


def why_not() -> str | None:
    """Why a program can get no network of its own here; None where it can."""
    if sys.platform != "linux":
        return "network namespaces are Linux's"
    done = subprocess.run([sys.executable, "-I", "-S", __file__, "--", "/bin/true"], capture_output=True, text=True)
    if done.returncode == 0:
        return None
    said = done.stderr.strip().splitlines()[-1:]
    return " ".join(["the test cluster needs root, or user namespaces for everyone;", *said])


def wrapped(
    command: Sequence[str | Path],
    out: Collection[int],
    in_: Collection[int] = (),
    bind: Mapping[str, Path] | None = None,
) -> list[str]:
    """The command line that runs `command` so. `bind`: what it shall find in folders right under the root."""
    ways = [*(f"--out={port}" for port in out), *(f"--in={port}" for port in in_)]
    ways += [f"--bind={seen}={folder}" for seen, folder in (bind or {}).items()]
    return [sys.executable, "-I", "-S", __file__, *ways, "--", *map(str, command)]


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=int, action="append", default=[])
    parser.add_argument("--in", type=int, action="append", default=[], dest="in_")
    parser.add_argument("--bind", action="append", default=[])
    parser.add_argument("command", nargs="+")
    asked = parser.parse_args()
    listeners = [_listen(port) for port in asked.in_]
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    parent = os.getpid()
    inside = os.fork()
    if inside == 0:
        here.close()
        _die_with(parent)
        os._exit(_inside(there, asked, dict(zip(asked.in_, listeners, strict=True))))
    there.close()
    for listener in listeners:
        listener.close()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda got, _: os.kill(inside, got))
    _, descriptors, _, _ = socket.recv_fds(here, 1, 16) if asked.out else (b"", [], 0, None)
    for port, descriptor in zip(asked.out, descriptors, strict=False):
        _serve(socket.socket(fileno=descriptor), port)
    return os.waitstatus_to_exitcode(os.waitpid(inside, 0)[1])


def _inside(there: socket.socket, asked: argparse.Namespace, in_: dict[int, socket.socket]) -> int:
    try:
        _enter_network(own_files=bool(asked.bind))
        if asked.bind:
            _enter_root(dict(one.split("=", 1) for one in asked.bind))
    except OSError as error:
        print(f"no network of its own: {error}", file=sys.stderr)
        return 1
    if asked.out:
        made = [_listen(port) for port in asked.out]
        there.sendmsg(
            [b"."], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [one.fileno() for one in made]))]
        )
        for one in made:
            one.close()
    here = os.getpid()
    child = os.fork()
    if child == 0:
        _die_with(here)
        os.execv(asked.command[0], asked.command)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda got, _: os.kill(child, got))
    for port, listener in in_.items():
        _serve(listener, port)
    return max(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), -1) % 256


def _enter_network(own_files: bool) -> None:
    """A new network namespace (as root of a new user namespace where we are not root), its loopback up."""
    user, group = os.getuid(), os.getgid()
    _call("unshare", _CLONE_NEWNET | (_CLONE_NEWUSER if user else 0) | (_CLONE_NEWNS if own_files else 0))
    if user:
        for file, line in (("uid_map", f"0 {user} 1"), ("setgroups", "deny"), ("gid_map", f"0 {group} 1")):
            with open(f"/proc/self/{file}", "w") as handle:  # noqa: PTH123 - a file of the kernel
                handle.write(line)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))


def _enter_root(bind: dict[str, str]) -> None:
    """A root of its own with all that lies in the machine's, and these folders besides."""
    _call("mount", b"none", b"/", None, _MS_REC | _MS_PRIVATE, None)
    # A place to build it: empty outside, and removed with the folder in which the bound ones lie.
    root = Path(tempfile.mkdtemp(prefix="root-", dir=Path(next(iter(bind.values()))).parent))
    _call("mount", b"tmpfs", bytes(root), b"tmpfs", 0, None)
    for entry in Path("/").iterdir():
        if entry.is_symlink():
            (root / entry.name).symlink_to(entry.readlink())
        elif entry.is_dir():
            _bind(entry, root / entry.name)
    for seen, folder in bind.items():
        _bind(Path(folder), root / seen.strip("/"))
    os.chroot(root)
    os.chdir("/")


def _bind(source: Path, target: Path) -> None:
    target.mkdir()
    _call("mount", bytes(source), bytes(target), None, _MS_BIND | _MS_REC, None)


def _call(name: str, *arguments: object) -> None:
    """A function of the C library that returns 0 where it succeeds."""
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments):
        raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")


def _die_with(parent: int) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def _listen(port: int) -> socket.socket:
    return socket.create_server(("127.0.0.1", port), backlog=128)


def _serve(listener: socket.socket, port: int) -> None:
    """Lead every connection to this process's own 127.0.0.1:`port`."""

    def accept() -> None:
        while True:
            near, _ = listener.accept()
            threading.Thread(target=_connect, args=(near, port), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()


def _connect(near: socket.socket, port: int) -> None:
    try:
        far = socket.create_connection(("127.0.0.1", port))
    except OSError:
        near.close()
        return
    back = threading.Thread(target=_copy, args=(far, near), daemon=True)
    back.start()
    _copy(near, far)
    back.join()
    near.close()
    far.close()


def _copy(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(1 << 16):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        # One side broke off: so must the other, or a watch would never learn that its server is gone.
        for one in (source, target):
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue


if __name__ == "__main__":
    sys.exit(main())
