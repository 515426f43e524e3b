"""Real Sparks for tests, with little memory: `local-cluster` has executors in processes of their own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from endcap.spec.spark import SparkSpec

LACKING = "no Java on this machine" if "JAVA_HOME" not in os.environ and shutil.which("java") is None else ""
needs_java = pytest.mark.skipif(bool(LACKING), reason=LACKING)
QUICK: dict[str, Any] = {
    "spark.sql.shuffle.partitions": 2,
    # Small tables are over before generated code is compiled.
    "spark.sql.codegen.wholeStage": False,
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    "spark.executor.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
}


def spark(**keys: Any) -> SparkSpec:
    """A section `spark` for small tables."""
    return SparkSpec.model_validate({"driver_memory": "600Mi", "memory": "600Mi", "conf": QUICK, **keys})


@contextmanager
def spark_home(folder: Path, *, quick: bool = True) -> Iterator[None]:
    """A home whose folder `work`, in which `local-cluster` keeps executors' files, is not pyspark's own.

    quick: Java compiles little, which pays where a test is over soon.
    """
    import pyspark

    folder.mkdir()
    for path in Path(pyspark.__file__).parent.iterdir():
        (folder / path.name).symlink_to(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPARK_HOME", str(folder))
        if quick:
            patch.setenv("JAVA_TOOL_OPTIONS", "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC")
        yield


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
