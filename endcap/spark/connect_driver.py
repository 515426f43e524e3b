"""The main program of a Spark driver that serves Spark Connect: ``connect_driver.py SECONDS``

Spark's own server cannot be the main program of a driver in Kubernetes: spark-submit takes it there on YARN alone. So
this program starts a Spark context, of which a plugin (`spark.plugins`) serves Spark Connect. It ends when nobody has
had a session for so many seconds: a step that was killed cannot end it.

The driver runs a copy of this file, so it imports nothing of Endcap.
"""

from __future__ import annotations

import contextlib
import sys
import time
from typing import Any

LOOK = 2.0
"""Seconds between two looks at the sessions."""


def main(seconds: float) -> None:
    """Serve Spark Connect until nobody has had a session for so many seconds."""
    from pyspark import SparkContext

    context = SparkContext.getOrCreate()
    java: Any = context._jvm
    service = getattr(getattr(java, "org.apache.spark.sql.connect.service.SparkConnectService$"), "MODULE$")
    print(f"Spark Connect listens at port {service.localPort()}", flush=True)
    last_used = time.monotonic()
    while time.monotonic() - last_used < seconds:
        if not service.sessionManager().listActiveSessions().isEmpty():
            last_used = time.monotonic()
        time.sleep(LOOK)
    print(f"nobody has had a session for {seconds:.0f} s; ending", flush=True)
    context.stop()
    # Threads of the server would keep Java alive, and with it the pod. Java does not answer this call.
    with contextlib.suppress(Exception):
        java.java.lang.Runtime.getRuntime().halt(0)


if __name__ == "__main__":
    main(float(sys.argv[1]))
