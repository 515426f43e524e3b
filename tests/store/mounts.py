"""A folder that is mounted once more, where nothing can be written."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def read_only(folder: Path, mount: Path) -> Iterator[None]:
    """Mount a folder at another one for the length of the block. Skips the test where this user may not."""
    try:
        _run("mount", "--bind", str(folder), str(mount))
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this user may not mount a folder")
    try:
        _run("mount", "-o", "remount,ro,bind", str(mount))
        yield
    finally:
        _run("umount", "--lazy", str(mount))


def _run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True)
