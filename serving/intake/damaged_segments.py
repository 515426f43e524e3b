"""Torn tails, and segments that the disk has changed. The intake does not use them, but keeps them for a person.

They lie beside the segments, and only the intake's user may read them: ``<segment>.cut-<offset>`` is a tail that was
cut off, ``<sequence>.damaged`` a whole segment. If there are too many, the oldest are removed.
"""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path

from endcap.errors import EndcapError, IntegrityError
from endcap_serving.intake import metrics
from endcap_serving.intake.segments import SegmentContent, replace_file
from endcap_serving.json_log import make_log_fields

log = logging.getLogger("endcap.intake")
CUT, DAMAGED = ".cut-", ".damaged"
MOST_BYTES = 1 << 30
"""Bytes of all kept files together."""
MOST_FILES = 1000
"""Kept files."""
OWN = 0o600
"""The mode of kept files."""


def cut_torn_tail(file: Path, content: SegmentContent) -> None:
    """Copy the torn tail of a segment to a file beside it, then cut it off.

    Parameters
    ----------
    file
        The segment.
    content
        What `read_segment` read of it.

    Raises
    ------
    OSError
        The disk refused. Then nothing is cut.
    """
    with file.open("rb") as handle:
        handle.seek(content.end)
        tail = handle.read()
    kept_file = file.with_name(f"{file.name}{CUT}{content.end}")
    try:
        replace_file(kept_file, tail, mode=OWN)
        with file.open("r+b") as handle:
            handle.truncate(content.end)
            os.fsync(handle.fileno())
    except OSError:
        if _get_size(file) > content.end:
            with contextlib.suppress(OSError):
                kept_file.unlink(missing_ok=True)
        raise
    metrics.CUT_TAILS.inc()
    report = EndcapError(
        "a kill or a full disk cut this write; no client was told that it is durable",
        code="intake.tail-torn",
        segment=file.name,
        bytes=content.tail,
        kept=str(kept_file),
    )
    log.warning("a torn tail was cut off", extra=make_log_fields(report))
    remove_oldest(file.parent)


def set_aside(file: Path, content: SegmentContent) -> None:
    """Rename a segment that the disk has changed. Call it when the good frames are sealed. Raises OSError."""
    kept_file = file.with_suffix(DAMAGED)
    file.chmod(OWN)
    file.replace(kept_file)
    metrics.DAMAGED.inc()
    report = IntegrityError(
        "the disk has changed this segment; its good frames are sealed",
        code="intake.segment-damaged",
        kept=str(kept_file),
        stretches=content.damaged + (content.tail > 0),
        tail=content.tail,
    )
    log.error("the disk has changed a segment", extra=make_log_fields(report))
    remove_oldest(file.parent)


def list_files(folder: Path) -> list[Path]:
    """List the kept files, oldest first."""
    return sorted([*folder.glob(f"*{CUT}*"), *folder.glob(f"*{DAMAGED}")])


def count_files(folder: Path) -> dict[str, int]:
    """Count the kept files by kind, for /readyz. Kinds without a file are left out.

    Damage does not make the intake unready, but a person who looks shall see it.
    """
    kinds = {"damaged_segments": f"*{DAMAGED}", "cut_tails": f"*{CUT}*"}
    counts = {kind: len(list(folder.glob(pattern))) for kind, pattern in kinds.items()}
    return {kind: count for kind, count in counts.items() if count}


def remove_oldest(folder: Path) -> None:
    """Remove the oldest kept files beyond the bounds, and measure the others. Never raises."""
    kept = [(file, _get_size(file)) for file in list_files(folder)]
    total = sum(size for _, size in kept)
    while kept and (len(kept) > MOST_FILES or total > MOST_BYTES):
        file, size = kept.pop(0)
        total -= size
        with contextlib.suppress(OSError):
            file.unlink(missing_ok=True)
        report = EndcapError("too many damaged files are kept", code="intake.kept-removed", file=str(file), bytes=size)
        log.warning("the oldest kept file is removed", extra=make_log_fields(report))
    metrics.KEPT.set(total)


def _get_size(file: Path) -> int:
    """Return a file's bytes; 0 if it cannot be read."""
    with contextlib.suppress(OSError):
        return file.stat().st_size
    return 0
