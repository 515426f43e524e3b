"""Which code runs here: Endcap's version, the commit, the image."""

from __future__ import annotations

import os
import shutil
import subprocess

from endcap import __version__

COMMIT = "ENDCAP_COMMIT"
"""The commit that the image was built from; the image's build sets it, because there is no checkout in an image."""
IMAGE = "ENDCAP_IMAGE"
"""The image that this runs in; a pipeline sets it on every task."""


def describe_code() -> dict[str, str]:
    """Describe the code that runs here: `version`, `commit` and `image`. An unknown value is empty."""
    return {"version": __version__, "commit": find_commit(), "image": os.environ.get(IMAGE, "")}


def find_commit() -> str:
    """Find the commit of the image or of the checkout; empty if there is none.

    `-dirty` follows if files differ from it.
    """
    if commit := os.environ.get(COMMIT):
        return commit
    git = shutil.which("git")
    if git is None:
        return ""
    head = subprocess.run([git, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    if head.returncode:
        return ""
    changed = subprocess.run(
        [git, "status", "--porcelain", "--untracked-files=no"], capture_output=True, text=True, check=False
    )
    return head.stdout.strip() + ("-dirty" if changed.stdout.strip() else "")
