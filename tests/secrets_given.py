"""A secret that is planted, and where it must not be met: texts, files, command lines."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest

from endcap.errors import EndcapError, describe_error
from endcap.output_redaction import format_traceback
from endcap.runs import Fault

PLANTED = "hunter2"
RAW = f"{PLANTED}/{PLANTED}#{PLANTED}?{PLANTED}@{PLANTED}%{PLANTED}"
"""As somebody pastes it: each piece, wherever a parser cuts, holds what is looked for."""
ENCODED = quote(RAW, safe="")


def error_of(call: Callable[[], object]) -> EndcapError:
    """The error of a call, which must be Endcap's own and hold the planted secret nowhere that anybody looks."""
    with pytest.raises(EndcapError) as caught:
        call()
    error = caught.value
    shown = [str(error), repr(error), json.dumps(describe_error(error)), json.dumps(Fault.of(error).to_json())]
    assert PLANTED not in "".join([*shown, format_traceback(error)]), shown
    return error


@contextmanager
def command_lines() -> Iterator[set[str]]:
    """Command lines of every process that this one starts within the block, and that those start."""
    seen: set[str] = set()
    ended = threading.Event()

    def watch() -> None:
        while not ended.is_set():
            seen.update(_of_descendants())
            time.sleep(0.05)

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield seen
    finally:
        ended.set()
        watching.join()


def _of_descendants() -> Iterator[str]:
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            continue
    own = {int(Path("/proc/self").readlink().name)}
    grown = True
    while grown:
        more = {pid for pid, parent in parents.items() if parent in own} - own
        own |= more
        grown = bool(more)
    for pid in own - {int(Path("/proc/self").readlink().name)}:
        try:
            yield Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue


def files_with_it(folder: Path) -> list[str]:
    """Files below a folder that hold the planted secret."""
    listed = subprocess.run(["grep", "-rla", PLANTED, str(folder)], capture_output=True, text=True, check=False)
    return listed.stdout.splitlines()
