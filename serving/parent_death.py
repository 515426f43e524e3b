"""Run a command that dies with the process that started it: ``python -I -S leash.py PARENT COMMAND ARGUMENT…``

A supervisor that is killed by SIGKILL can end nothing itself. On Linux the kernel does it: PR_SET_PDEATHSIG stays with
a process over exec. It looks at the *thread* that made the process, so a process on a leash must be started from a
thread that lives as long as the supervisor. Elsewhere the command runs without a leash.

A file of its own, run by a fresh interpreter, because Python code between fork and exec can lock up a process that has
threads.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    parent, command = int(arguments[0]), arguments[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        # The parent may have gone before the leash was on: then no signal will come.
        if os.getppid() != parent:
            sys.exit(1)
    os.execv(command[0], command)  # noqa: S606


if __name__ == "__main__":
    main(sys.argv[1:])
