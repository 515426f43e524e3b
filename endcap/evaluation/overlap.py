"""Whether the test sessions of a `given` split are separate from the training sessions."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from endcap.features.dataset_files import read_table

Json = dict[str, Any]
_SPAN = ["customer", "start", "end", "events"]


def measure_overlap(dataset: Path) -> Json:
    """Measure what a dataset's given test sessions share with its training part; empty if either part has no sessions.

    Returns
    -------
    dict
        `sessions`: all given ones. `trained_until`: time of the last training event, epoch ms. `early`: sessions that
        begin before it. `same_id`: sessions with a training session's key (customer and id). `same_events`: sessions of
        two or more events with the same items at the same times as a training session of their customer. `shared`:
        sessions that are one of these two. A verdict stores it.
    """
    trained, tested = (read_table(dataset / f"{part}sessions.parquet") for part in ("", "test_"))
    if not len(trained) or not len(tested):
        return {}
    until = pc.max(trained["end"]).as_py()
    same_id = pc.is_in(tested["id"], value_set=trained["id"]).to_numpy()
    same_events = np.isin(tested["session"].to_numpy(), _find_copies(dataset, trained, tested))
    return {
        "sessions": len(tested),
        "trained_until": until,
        "early": pc.sum(pc.less(tested["start"], until)).as_py(),
        "same_id": int(same_id.sum()),
        "same_events": int(same_events.sum()),
        "shared": int((same_id | same_events).sum()),
    }


def warn_of_overlap(overlap: Json) -> list[str]:
    """Return a sentence for each way in which the test overlaps with the training."""
    warnings = []
    if overlap.get("early"):
        moment = datetime.fromtimestamp(overlap["trained_until"] / 1000, UTC).isoformat(timespec="seconds")
        warnings.append(
            f"split.by is given: {overlap['early']:,} of {overlap['sessions']:,} test sessions begin before the "
            f"training part ends ({moment}), so models have seen what others did afterwards"
        )
    if overlap.get("shared"):
        warnings.append(
            f"split.by is given: {overlap['shared']:,} of {overlap['sessions']:,} test sessions are trained on too: "
            f"{overlap['same_id']:,} have the id of a training session, {overlap['same_events']:,} the same events at "
            "the same times. Models know what comes next in them: take them out of the one part or the other"
        )
    return warnings


def _find_copies(dataset: Path, trained: pa.Table, tested: pa.Table) -> list[int]:
    """Return the numbers of test sessions whose events are those of a training session."""
    several = tested.filter(pc.greater_equal(tested["events"], 2))
    suspects = several.select(["session", *_SPAN]).join(trained.select(_SPAN), _SPAN, join_type="left semi")
    if not len(suspects):
        return []
    originals = trained.select(["session", *_SPAN]).join(suspects.select(_SPAN), _SPAN, join_type="left semi")
    known = set(_read_contents(dataset / "events.parquet", originals).values())
    return [
        number for number, held in _read_contents(dataset / "test_events.parquet", suspects).items() if held in known
    ]


def _read_contents(file: Path, sessions: pa.Table) -> dict[int, tuple[int, bytes, bytes]]:
    """Return each session's customer, times and items by its number; the items of one time ascend."""
    events = read_table(file, ["session", "time", "item"])
    matching = events.filter(pc.is_in(events["session"], value_set=sessions["session"]))
    number, time, item = (matching[name].to_numpy() for name in ("session", "time", "item"))
    order = np.lexsort((item, time, number))
    numbers, begins = np.unique(number[order], return_index=True)
    owner = dict(zip(sessions["session"].to_pylist(), sessions["customer"].to_pylist(), strict=True))
    parts = zip(np.split(time[order], begins[1:]), np.split(item[order], begins[1:]), strict=True)
    return {
        session: (owner[session], times.tobytes(), items.tobytes())
        for session, (times, items) in zip(numbers.tolist(), parts, strict=True)
    }
