"""Which files of a source are parsed together, and the key under which their rows are kept.

Files are parsed in units, so that a run reads the units whose files are new or changed and refers to the rest. Where a
unit ends depends on the files in it alone: a file that comes late changes one unit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from endcap.events.forget_list import NOBODY, ForgetList
from endcap.sources.parts import SourcePart
from endcap.sources.pseudonymised_rows import find_key_id
from endcap.spec.event_log import EventSource
from endcap.spec.shop import Shop
from endcap.steps import STEPS
from endcap.store import fingerprint, fingerprint_code

LARGE = 8 << 20
"""Bytes: a unit of so many ends, and a file of so many is a unit of its own."""
ONE_IN = 16
"""One in so many small files ends a unit, by its digest."""


@dataclass(frozen=True)
class Unit:
    """Files of a source that are parsed together.

    Attributes
    ----------
    source
        The source, and as `number` its place among those of events.
    files
        Its files in reading order, with their digests.
    first_file
        The place of the first among all files of events.
    """

    source: EventSource
    number: int
    files: Sequence[SourcePart]
    digests: Sequence[str]
    first_file: int


def group_units(
    source: EventSource, number: int, files: Sequence[SourcePart], digests: Sequence[str], first_file: int
) -> list[Unit]:
    """Group the files of a source, in their order, into units.

    Parameters
    ----------
    source, number
        The source and its place among those of events.
    files, digests
        Its files with their digests, in reading order.
    first_file
        The place of the first among all files of events.
    """
    units: list[Unit] = []
    begin = size = 0

    def end_before(place: int) -> None:
        nonlocal begin, size
        if place > begin:
            units.append(Unit(source, number, files[begin:place], digests[begin:place], first_file + begin))
        begin, size = place, 0

    for place, (file, digest) in enumerate(zip(files, digests, strict=True)):
        folder = PurePosixPath(file.name).parent
        is_alone = file.bytes >= LARGE or file.is_kept_alone
        if is_alone or (place and folder != PurePosixPath(files[place - 1].name).parent):
            end_before(place)
        size += file.bytes
        if size >= LARGE or is_alone or int(fingerprint(digest), 16) % ONE_IN == 0:
            end_before(place + 1)
    end_before(len(files))
    return units


def compute_unit_key(shop: Shop, unit: Unit, forgotten: ForgetList = NOBODY) -> str:
    """Fingerprint what a unit's rows depend on: its files' content and how they are read, not their names.

    The customers who are forgotten count if the unit has, or had, rows of theirs.
    """
    key = fingerprint(
        "events",
        unit.source.model_dump(mode="json", exclude={"path", "bigquery"}),
        # With several sources, columns of returns may be missing in some (`list_event_columns`).
        len(shop.events.sources) > 1 and bool(shop.events.returns),
        shop.events.model_dump(mode="json", exclude={"sources", "max_bad_share", "engine"}),
        shop.sessions.by,
        shop.kept_types,
        find_key_id(shop),
        [[digest, file.format, file.compression] for file, digest in zip(unit.files, unit.digests, strict=True)],
        fingerprint_code(STEPS["ingest"].entry),
    )
    return forgotten.replace_key(key)
