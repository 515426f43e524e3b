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
    """`version`, `commit` and `image`; what is not known is empty."""
    return {"version": __version__, "commit": find_commit(), "image": os.environ.get(IMAGE, "")}


def find_commit() -> str:
    """The commit of the image, or of the checkout that this runs in, with `-dirty` where files differ; else empty."""
    if known := os.environ.get(COMMIT):
        return known
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
