"""What surrounds every step: its log, its progress, and how it reports its end.

In a pod a step prints to the pod's log. On a laptop the local runner sets ENDCAP_RUN_FOLDER: everything that the step
prints then goes to `<folder>/<step>.log`, and the runner is told of its start, progress and end by marked lines. The
step ends when its runner does.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from endcap.errors import EndcapError

MARK = "::endcap "
RUN_FOLDER = "ENDCAP_RUN_FOLDER"


class Step:
    """Handed to the step's body: takes progress lines and the step's result."""

    def __init__(self, name: str, tell: Callable[[dict[str, Any]], None]) -> None:
        self.name = name
        self._tell = tell

    def progress(self, line: str) -> None:
        print(line, flush=True)
        self._tell({"state": "progress", "line": line})

    def done(self, result: str, summary: str = "") -> str:
        """Report the result's address and one line on it; gives the address back."""
        print(f"{result} {summary}".rstrip(), flush=True)
        self._tell({"state": "done", "result": result, "summary": summary})
        return result


@contextlib.contextmanager
def step(name: str) -> Iterator[Step]:
    """Run a step's body; a failure is told with its cause and ends the process."""
    folder = os.environ.get(RUN_FOLDER)
    tell = _marked_lines(name, Path(folder)) if folder else lambda event: None
    begun = time.monotonic()
    tell({"state": "started"})
    try:
        yield Step(name, tell)
    except BaseException as error:
        traceback.print_exc()
        cause = str(error) if isinstance(error, EndcapError) else f"{type(error).__name__}: {error}"
        tell({"state": "failed", "cause": cause, "seconds": time.monotonic() - begun})
        raise


def _marked_lines(name: str, folder: Path) -> Callable[[dict[str, Any]], None]:
    """Send the process's output to the step's log; what is returned still speaks to the runner."""
    runner = os.fdopen(os.dup(1), "w", buffering=1)
    log = os.open(folder / f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    threading.Thread(target=_end_with_runner, args=(runner.fileno(),), daemon=True).start()

    def tell(event: dict[str, Any]) -> None:
        with contextlib.suppress(BrokenPipeError):  # the runner is gone: this process is about to end as well
            runner.write(MARK + json.dumps({"step": name, **event}) + "\n")

    return tell


def _end_with_runner(pipe: int) -> None:
    """Wait until nobody reads the step's output any more, which is when the runner has ended, and end this process.

    The system closes the runner's end of the pipe however the runner ends, kill -9 too. A step that lived on would
    work for nobody, and beside the one that the next run starts.
    """
    waiting = select.poll()
    waiting.register(pipe, 0)  # no event is asked for: an end that is gone is always told
    waiting.poll()
    os.write(2, b"the run was ended, and this step with it; the same command goes on\n")
    os._exit(1)
