"""Starts Ray on this machine, and tries again where a loaded machine is too slow for Ray's own limits."""

from __future__ import annotations

import importlib
import logging
import sys
import time
from typing import Any

from endcap.ray_driver.jobs import Connection

QUIET = {"log_to_driver": False, "logging_level": logging.ERROR}
"""Settings of `ray.init`: Ray writes errors alone."""
_OBJECT_STORE = 100 * 2**20
"""Bytes of Ray's object store. Workers read the data from Endcap's store, so that little goes through Ray's."""
_MOST_TRIES = 3
_BEGINS_WITHIN = 120.0
"""Seconds after which no other try begins. Ray waits 30 seconds for its control service, then 30 for its node. The node
ends by itself if its agent needs more than 15 seconds to start. No setting changes the last two limits. So one try
takes about 60 seconds at most, and all of them 180."""
_TIMED_OUT = "timed out"
"""What Ray's errors say where a process of its own was too slow; they have no class of their own."""
_DIES_WITHIN = 5.0


def start_local_ray(ray: Any, connection: Connection) -> None:
    """Start Ray on this machine, and connect to it.

    Parameters
    ----------
    ray
        The module.
    connection
        How many cores Ray gets, and where its files lie.

    Raises
    ------
    RuntimeError
        Ray's processes were too slow in each try.
    """
    begin = time.monotonic()
    for number in range(1, _MOST_TRIES + 1):
        try:
            _init(ray, connection)
            return
        except Exception as error:
            if _TIMED_OUT not in str(error).lower():
                raise
            seconds = time.monotonic() - begin
            ray.shutdown()
            _end_children()
            if number == _MOST_TRIES or seconds > _BEGINS_WITHIN:
                raise RuntimeError(
                    f"Ray did not start on this machine in {number} tries, {seconds:.0f} seconds together; the machine "
                    f"may have too much other work. Ray says: {error}"
                ) from error
            print(f"Ray did not start in try {number} of {_MOST_TRIES}, so it is tried again: {error}", file=sys.stderr)


def _init(ray: Any, connection: Connection) -> None:
    ray.init(
        "local",
        num_cpus=connection.cpus,
        object_store_memory=_OBJECT_STORE,
        include_dashboard=False,
        _temp_dir=connection.temp,
        _node_ip_address="127.0.0.1",
        **QUIET,
    )


def _end_children() -> None:
    """End what a failed try started: Ray loses sight of it, so that `ray.shutdown` leaves it."""
    # Ray brings this library, and finds it only once Ray is imported.
    psutil = importlib.import_module("psutil")
    children = psutil.Process().children(recursive=True)
    for child in children:
        try:
            child.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(children, timeout=_DIES_WITHIN)
