"""What runs are called, and which one this process works for."""

from __future__ import annotations

import os
import re
import uuid
from datetime import UTC, datetime
from pathlib import Path

RUN_FOLDER = "ENDCAP_RUN_FOLDER"
"""The folder of the run's logs. The local runner sets it for its steps; its last part is the run's name."""
_NAME = re.compile(r"(?P<recommender>.+)-(?P<at>\d{8}T\d{6})-[0-9a-f]{4}")


def make_run_name(recommender: str) -> str:
    """Make a unique name for a run: the recommender, the time (UTC) and four random digits."""
    return f"{recommender}-{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:4]}"


def find_current_run(run_id: str = "") -> str:
    """Return the run that this step belongs to: the one whose folder the local runner set, else `run_id`, KFP's id."""
    folder = os.environ.get(RUN_FOLDER)
    return Path(folder).name if folder else run_id


def split_run_name(name: str) -> tuple[str, str]:
    """Split a run's name into recommender and time (ISO, UTC). Both are empty for a name of another form."""
    match = _NAME.fullmatch(name)
    if match is None:
        return "", ""
    at = datetime.strptime(match["at"], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
    return match["recommender"], at.isoformat()
