"""Run a command that ends when its standard input does: ``python -I -S bound_process.py COMMAND ARGUMENT…``

Whoever starts it holds the other end of the pipe. If that process dies, by SIGKILL too, the pipe closes, and the
command is ended in order: Spark then takes its executors and its temporary files with it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading

ENDS_WITHIN = 15.0
"""Seconds for the command to end in order; then it is killed."""


def main(command: list[str]) -> int:
    """Run the command and return its exit status."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)

    def end(*_: object) -> None:
        with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(ENDS_WITHIN)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)

    def watch() -> None:
        while os.read(0, 1):
            pass
        end()

    threading.Thread(target=watch, daemon=True).start()
    # The one who started it decides when it ends.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    return process.wait()


if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.exit(status if status >= 0 else 128 - status)
