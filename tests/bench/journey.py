"""The main job as a person waits for it: help, a step's overhead, the demo."""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ENDCAP = [sys.executable, "-c", "from endcap.cli.main import main; main()"]
FEATURES_IMPORTS = "import kfp.dsl.executor_main, endcap.features, endcap.spec, endcap.store, duckdb, ibis"


def measure() -> list[dict[str, Any]]:
    return [_help(), _overhead(), _demo()]


def _help() -> dict[str, Any]:
    seconds = statistics.median(_timed([*ENDCAP, "--help"])[0] for _ in range(5))
    return _result("endcap --help", seconds, 0.5, "median of five")


def _overhead() -> dict[str, Any]:
    """A features step that finds its dataset, less the time of importing what it imports."""
    with tempfile.TemporaryDirectory() as folder:
        _timed([*ENDCAP, "events", "simulate", folder, "--events=20000", "--items=500", "--days=8"])
        run = [*ENDCAP, "run", "demo", "--pipeline=features", f"--store={folder}/store"]
        environment = {"ENDCAP_DEMO": folder}
        _timed(run, environment)
        steps = [float(re.findall(r"✓ features +([0-9.]+) s", _timed(run, environment)[1])[0]) for _ in range(3)]
    imports = statistics.median(_timed([sys.executable, "-c", FEATURES_IMPORTS])[0] for _ in range(3))
    return _result(
        "overhead of a step beyond its imports",
        statistics.median(steps) - imports,
        1.0,
        f"features step that finds its output, {statistics.median(steps):.1f} s, less its imports, {imports:.1f} s",
    )


def _demo() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        seconds, _ = _timed([*ENDCAP, "demo", "--folder", str(Path(folder) / "demo")])
    return _result("make demo, installed", seconds, 150.0, "the whole demo, from simulated log to split")


def _timed(command: list[str], environment: dict[str, str] | None = None) -> tuple[float, str]:
    begun = time.monotonic()
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, env={**os.environ, **(environment or {})}
    )
    return time.monotonic() - begun, done.stdout


def _result(name: str, seconds: float, floor: float, how: str) -> dict[str, Any]:
    return {"name": name, "value": seconds, "unit": "s", "floor": floor, "lower_is_better": True, "how": how}
