"""A bar for the step that a method of a project runs, on a terminal and in a notebook."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from endcap.progress import Advance

Progress = Callable[[str], None]
_WIDTH = 90


def ignore_line(line: str) -> None:
    """Show nothing."""


@contextmanager
def show_progress(step: str) -> Iterator[Progress]:
    """Show the lines of a step for the length of a block.

    If a line says how much of the whole is done, the bar fills. Otherwise it shows the time and the last line. Nothing
    is written if the output is neither a terminal nor a notebook.
    """
    if not _is_watched():
        yield ignore_line
        return
    from tqdm.auto import tqdm

    shown: Any = tqdm(desc=step, leave=False, bar_format="{desc} {elapsed} {postfix}")

    def show(line: str) -> None:
        if isinstance(line, Advance):
            shown.bar_format = None
            shown.total, shown.n = line.whole, line.done
        shown.set_postfix_str(line.splitlines()[0][:_WIDTH] if line else "", refresh=True)

    try:
        yield show
    finally:
        shown.close()


def _is_watched() -> bool:
    return sys.stderr.isatty() or "ipykernel" in sys.modules
