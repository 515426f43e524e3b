"""What the intake does not use any more and does not throw away: torn tails, and segments that the disk has changed.

They lie beside the segments for a person to look at, readable by the intake's user alone: ``<segment>.cut-<offset>`` is
a tail that was cut off, ``<sequence>.damaged`` a whole segment. The oldest go where they become too many.
"""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path

from endcap.errors import EndcapError, IntegrityError
from endcap_serving.intake import metrics
from endcap_serving.intake.segments import SegmentContent, replace_file
from endcap_serving.json_log import log_fields_of

log = logging.getLogger("endcap.intake")
CUT, DAMAGED = ".cut-", ".damaged"
MOST_BYTES = 1 << 30
MOST_FILES = 1000
OWN = 0o600


def cut_torn_tail(file: Path, content: SegmentContent) -> None:
    """Keep the torn tail of a segment in a file beside, then cut it off. Raises OSError, and then nothing is cut."""
    with file.open("rb") as handle:
        handle.seek(content.end)
        tail = handle.read()
    beside = file.with_name(f"{file.name}{CUT}{content.end}")
    try:
        replace_file(beside, tail, mode=OWN)
        with file.open("r+b") as handle:
            handle.truncate(content.end)
            os.fsync(handle.fileno())
    except OSError:
        if _size(file) > content.end:
            with contextlib.suppress(OSError):
                beside.unlink(missing_ok=True)
        raise
    metrics.CUT_TAILS.inc()
    own = EndcapError(
        "a write that was cut: nobody was told that it is durable",
        code="intake.tail-torn",
        segment=file.name,
        bytes=content.tail,
        kept=str(beside),
    )
    log.warning("a torn tail was cut off", extra=log_fields_of(own))
    bound(file.parent)


def set_aside(file: Path, content: SegmentContent) -> None:
    """Keep a segment that the disk has changed, when what is good of it is sealed. Raises OSError."""
    beside = file.with_suffix(DAMAGED)
    file.chmod(OWN)
    file.replace(beside)
    metrics.DAMAGED.inc()
    own = IntegrityError(
        "what is good of it is sealed",
        code="intake.segment-damaged",
        kept=str(beside),
        stretches=content.damaged + (content.tail > 0),
        tail=content.tail,
    )
    log.error("the disk has changed a segment", extra=log_fields_of(own))
    bound(file.parent)


def files(folder: Path) -> list[Path]:
    """All that is kept, the oldest first."""
    return sorted([*folder.glob(f"*{CUT}*"), *folder.glob(f"*{DAMAGED}")])


def counted(folder: Path) -> dict[str, int]:
    """How many of each kind there are, where there are any. Damage costs no readiness, but who looks shall see it."""
    kinds = {"damaged_segments": f"*{DAMAGED}", "cut_tails": f"*{CUT}*"}
    counts = {kind: len(list(folder.glob(pattern))) for kind, pattern in kinds.items()}
    return {kind: count for kind, count in counts.items() if count}


def bound(folder: Path) -> None:
    """Remove the oldest of what is kept, as far as it is too much, and say so; and measure the rest. Never raises."""
    kept = [(file, _size(file)) for file in files(folder)]
    total = sum(size for _, size in kept)
    while kept and (len(kept) > MOST_FILES or total > MOST_BYTES):
        file, size = kept.pop(0)
        total -= size
        with contextlib.suppress(OSError):
            file.unlink(missing_ok=True)
        own = EndcapError("too much is kept", code="intake.kept-removed", file=str(file), bytes=size)
        log.warning("the oldest of what was kept is removed", extra=log_fields_of(own))
    metrics.KEPT.set(total)


def _size(file: Path) -> int:
    with contextlib.suppress(OSError):
        return file.stat().st_size
    return 0
