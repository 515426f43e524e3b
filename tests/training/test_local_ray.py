"""Ray on a loaded machine: a start that Ray gives up is tried again, and nothing of it is left."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

TIMED_OUT = "The current node timed out during startup. This could happen because ..."
CHILD = """
import subprocess, sys
import ray
from endcap.ray_driver import local_ray
from endcap.ray_driver.jobs import Connection

errors, limit = {errors}, {limit}
started, shutdowns = [], []

def init(address, **settings):
    # A grandchild stands for a worker, which is a child of Ray's raylet.
    nested = "import subprocess, sys; print(subprocess.Popen(['sleep', '60']).pid, flush=True); sys.stdin.read()"
    process = subprocess.Popen(
        [sys.executable, "-c", nested], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    started.append((process, int(process.stdout.readline())))
    assert (address, settings["num_cpus"], settings["_temp_dir"]) == ("local", 2, "/nowhere")
    if errors:
        raise Exception(errors.pop(0))

ray.init, ray.shutdown = init, lambda: shutdowns.append(True)
local_ray._BEGINS_WITHIN = limit
connection = Connection(None, 2, "/nowhere", "/nowhere", 1, 0, "no.driver", {{}})
try:
    local_ray.start_local_ray(ray, connection)
    print("started")
except Exception as error:
    print(type(error).__name__, error)

import psutil

def runs(pid):
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE

print(*(runs(process.pid) or runs(nested) for process, nested in started), len(shutdowns))
local_ray._end_children()
"""


def _start(errors: list[str], limit: float = 120.0) -> tuple[list[str], str]:
    """Start Ray in a child process; its `ray.init` starts processes and then raises these errors, one a try.

    Returns
    -------
    tuple
        The lines of the child: how the start ended; then for each try whether its processes run, and the number of
        calls of `ray.shutdown`. And what was logged.
    """
    program = textwrap.dedent(CHILD).format(errors=errors, limit=limit)
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    return run.stdout.splitlines(), run.stderr


@pytest.mark.slow
def test_a_start_that_ray_gives_up_is_tried_again_and_its_processes_end() -> None:
    (outcome, processes), log = _start([TIMED_OUT, "Timed out waiting for file /ray/gcs_server_port"])
    assert outcome == "started"
    assert processes == "False False True 2"
    assert f"Ray did not start in try 1 of 3, so it is tried again: {TIMED_OUT}" in log
    assert "Ray did not start in try 2 of 3" in log


@pytest.mark.parametrize(("limit", "tries"), [(120.0, 3), (-1.0, 1)])
@pytest.mark.slow
def test_ray_gets_three_tries_within_a_limit(limit: float, tries: int) -> None:
    (outcome, processes), _ = _start([TIMED_OUT] * 5, limit)
    assert outcome.startswith(f"RuntimeError Ray did not start on this machine in {tries} tries, ")
    assert outcome.endswith(f"Ray says: {TIMED_OUT}")
    assert processes == f"{' '.join(['False'] * tries)} {tries}"


@pytest.mark.slow
def test_another_error_is_raised_at_once() -> None:
    (outcome, _), log = _start(["no room in /dev/shm"])
    assert outcome == "Exception no room in /dev/shm"
    assert "tried again" not in log
