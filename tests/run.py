"""Run pytest; what failed runs once more, alone, with nothing beside it: ``python -m tests.run ARGUMENTS OF PYTEST``

Thousands of tests with real servers share few cores, and a machine that is busy for half a minute makes some of them
late. A test that fails again failed. A test that passes alone is named in the last lines: it depends on the machine's
load, and somebody has to look at it. More than `MOST` failures are no accident, so they are not tried again.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

MOST = 3
FAILED = 1
"""Pytest's exit status if tests failed. Every other one, such as an error of collection, stands as it is."""


def main(arguments: list[str]) -> int:
    with tempfile.TemporaryDirectory() as cache:
        # A cache of its own: other runs at the same time must not mix their failures with these.
        command = [sys.executable, "-m", "pytest", "-o", f"cache_dir={cache}", *arguments]
        status = _run(command)
        failed = _read_failed(Path(cache))
        if status != FAILED or not 0 < len(failed) <= MOST:
            return status
        print(f"\n{len(failed)} failed beside other tests. They run once more, alone.\n", flush=True)
        status = _run([*command, "--last-failed", "--last-failed-no-failures=none", "-n", "0"])
        if status == 0:
            print("\nThese tests failed beside others and passed alone:", *failed, sep="\n  ", flush=True)
        return status


def _run(command: list[str]) -> int:
    return subprocess.run(command, check=False).returncode


def _read_failed(cache: Path) -> list[str]:
    file = cache / "v" / "cache" / "lastfailed"
    return sorted(json.loads(file.read_bytes())) if file.exists() else []


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
