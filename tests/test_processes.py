"""How SIGTERM ends a process."""

from __future__ import annotations

import subprocess
import sys

import pytest

ENDING = """
import os, signal, threading
from endcap.processes import exit_on_sigterm

class Closed:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        threading.Event().wait(0)

try:
    with exit_on_sigterm():
        {ending}
        threading.Event().wait(20)
        print("went on")
finally:
    print("ended in order")
"""


@pytest.mark.parametrize("ending", ["os.kill(os.getpid(), signal.SIGTERM)", "Closed()"])
def test_sigterm_ends_the_process_in_order_wherever_it_arrives(ending: str) -> None:
    """Python ignores the exceptions of a `__del__`."""
    program = ENDING.format(ending=ending)
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stdout.split("\n")) == (143, ["ended in order", ""])
