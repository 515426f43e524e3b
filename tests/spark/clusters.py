"""Real Sparks for tests, with little memory: `local-cluster` has executors in processes of their own."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from endcap.spark.configuration import to_text
from endcap.spark.server import SparkServer
from endcap.spec.spark import SparkSpec

LACKING = "no Java on this machine" if "JAVA_HOME" not in os.environ and shutil.which("java") is None else ""
needs_java = pytest.mark.skipif(bool(LACKING), reason=LACKING)
# Small tables are over before Java has compiled much, and before Spark's generated code or another plan pays. Together
# these take more than half of the processor time from the steps of a log of 500 events.
QUICK_JAVA = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
QUICK: dict[str, Any] = {
    "spark.sql.shuffle.partitions": 2,
    "spark.sql.codegen.wholeStage": False,
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    "spark.sql.adaptive.enabled": False,
    "spark.driver.extraJavaOptions": QUICK_JAVA,
    "spark.executor.extraJavaOptions": QUICK_JAVA,
}
WATCHED = {
    **QUICK,
    # As it is where nobody is in a hurry.
    "spark.sql.adaptive.enabled": True,
    # A page that says what runs and what is kept.
    "spark.ui.enabled": True,
    "spark.ui.port": 0,
    # What clients leave that were killed is removed while a test waits.
    "spark.connect.session.manager.defaultSessionTimeout": "20s",
    "spark.connect.session.manager.maintenanceInterval": "1s",
    "spark.cleaner.periodicGC.interval": "3s",
}


def spark(**keys: Any) -> SparkSpec:
    """A section `spark` for small tables."""
    return SparkSpec.model_validate({"driver_memory": "600Mi", "memory": "600Mi", "conf": QUICK, **keys})


def write_quick_environment(folder: Path) -> dict[str, str]:
    """Write Spark's own file of defaults; the variables by which every Spark and Java of a command is quick."""
    folder.mkdir()
    lines = [f"{name} {to_text(value)}\n" for name, value in QUICK.items() if name.startswith("spark.sql")]
    (folder / "spark-defaults.conf").write_text("".join(lines))
    return {"SPARK_CONF_DIR": str(folder), "JAVA_TOOL_OPTIONS": QUICK_JAVA}


@contextmanager
def spark_home(folder: Path) -> Iterator[None]:
    """A home whose folder `work`, in which `local-cluster` keeps executors' files, is not pyspark's own."""
    import pyspark

    folder.mkdir()
    for path in Path(pyspark.__file__).parent.iterdir():
        (folder / path.name).symlink_to(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPARK_HOME", str(folder))
        yield


def connect(server: SparkServer) -> dict[str, Any]:
    """The section `spark` of a step that uses a server. The variable with its token is set by who starts it."""
    return {"connect": server.address.partition(";")[0]}


def count_on_server(server: SparkServer, path: str) -> int:
    """Count the entries of a list of Spark's REST API, such as `storage/rdd` (kept tables) or `jobs?status=running`."""
    port = re.search(r"'SparkUI' on port (\d+)", server.log.read_text(errors="replace"))
    assert port is not None
    place = f"http://127.0.0.1:{port[1]}/api/v1/applications"
    with urlopen(place) as answer:
        (application,) = json.load(answer)
    with urlopen(f"{place}/{application['id']}/{path}") as answer:
        return len(json.load(answer))


def wait_for(condition: Callable[[], bool], seconds: float = 120) -> None:
    """Wait until a condition holds."""
    ends_at = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends_at
        time.sleep(0.2)


def list_java(folder: Path) -> list[int]:
    """The processes of Java whose command names a folder."""
    processes = []
    for path in Path("/proc").iterdir():
        try:
            command = (path / "cmdline").read_bytes().decode().split("\0")
        except (OSError, ValueError):
            continue
        if path.name.isdecimal() and command[0].endswith("java") and any(str(folder) in word for word in command):
            processes.append(int(path.name))
    return processes
