"""Run a command that dies with the process that started it: ``python -I -S parent_death.py PARENT COMMAND ARGUMENT…``

A supervisor that is killed by SIGKILL cannot end its children itself. On Linux the kernel does it: PR_SET_PDEATHSIG
stays with a process over exec. The kernel looks at the *thread* that made the process, so start the command from a
thread that lives as long as the supervisor. On other systems the command runs on when its parent dies.

A fresh interpreter runs this file, because Python code between fork and exec can lock up a process that has threads.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

PR_SET_PDEATHSIG = 1


def bind_to_parent(command: Sequence[str]) -> list[str]:
    """Return the command line that runs a command so that it dies with this process.

    Parameters
    ----------
    command
        A program and its arguments.

    Notes
    -----
    Only Linux offers this. On other systems the command runs on when this process dies.
    """
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), *command]


def main(arguments: list[str]) -> None:
    parent, command = int(arguments[0]), arguments[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        # The parent may have died before the call above: then no signal will come.
        if os.getppid() != parent:
            sys.exit(1)
    os.execv(command[0], command)  # noqa: S606


if __name__ == "__main__":
    main(sys.argv[1:])
