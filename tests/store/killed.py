"""Writers of documents that are killed at any moment, and what they may leave: nothing that is half, or in the way.

``killed_writers`` kills ``count`` of them at moments out of a seed. A writer is ``python -m tests.store.killed``.
"""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from endcap.store import Store, open_store
from endcap.store.base import Json

ROOT = Path(__file__).parents[2]
NAME = "deployments/killed"


def killed_writers(store: str, seed: int, count: int, environment: Mapping[str, str] | None = None) -> list[int]:
    """Kill `count` writers of one document; the last number that each said it had written, of those that said one."""
    chance, written = random.Random(seed), list[int]()
    words = [sys.executable, "-m", "tests.store.killed", store]
    for _ in range(count):
        writer = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment)
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        time.sleep(chance.uniform(0, 0.1))
        writer.kill()
        # The last line may be half.
        whole = writer.communicate()[0].rpartition("\n")[0]
        written += [int(line) for line in whole.splitlines()[-1:]]
    return written


def counted(before: Json | None) -> Json:
    return {"number": (before or {"number": 0})["number"] + 1, "filler": "x" * 5_000}


def _write(store: Store) -> None:
    print("ready", flush=True)
    while True:
        print(store.update_document(NAME, counted)["number"], flush=True)


if __name__ == "__main__":
    _write(open_store(sys.argv[1]))
