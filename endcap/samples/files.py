"""A file of samples: Parquet with a description of its writer."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from endcap.errors import IntegrityError
from endcap.samples.sampled_request import SCHEMA, SampledRequest, build_table

FORMAT = 1
_KEY = b"endcap.samples"
_NAME = re.compile(r"(?P<folder>[^/]+)/date=(?P<day>\d{4}-\d\d-\d\d)/(?P<instance>[^/]+)-(?P<sequence>\d+)\.parquet")
CATALOGUE_PREFIX = "catalogue-"


@dataclass(frozen=True)
class FileDescription:
    """What a file says of its writer.

    Attributes
    ----------
    instance
        The writing process.
    sequence
        The file's number among those of the instance, from 0.
    ended
        Whether this is the instance's last file, written when the process ended in order. Of an instance that ended
        without one, the samples that it had not written yet are lost.
    outcomes
        How many rankings the instance had by then for each outcome of `endcap_request_samples_total`.
    """

    instance: str
    sequence: int
    ended: bool = False
    outcomes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class SampleFile:
    """A file by its name. day: the UTC day of its rankings."""

    name: str
    day: date
    instance: str
    sequence: int


def get_day(time: int) -> date:
    """Return the UTC day of a moment in epoch milliseconds."""
    return datetime.fromtimestamp(time / 1000, UTC).date()


def name_folder(recommender: str, day: date) -> str:
    """Return the folder of a day's files, with a ``/`` at its end."""
    return f"{recommender}/date={day.isoformat()}/"


def name_file(recommender: str, day: date, instance: str, sequence: int) -> str:
    """Return the name of a file of samples."""
    return f"{name_folder(recommender, day)}{instance}-{sequence:06d}.parquet"


def name_catalogue(recommender: str, day: date, version: str) -> str:
    """Return the name of the copy of a catalogue that rankings of that day used."""
    return f"{name_folder(recommender, day)}{CATALOGUE_PREFIX}{version}.arrow"


def parse_name(name: str) -> SampleFile | None:
    """Parse a file's name; None if it is not one of samples."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    try:
        return SampleFile(name, date.fromisoformat(match["day"]), match["instance"], int(match["sequence"]))
    except ValueError:
        return None


def encode_file(samples: Sequence[SampledRequest] | pa.Table, description: FileDescription) -> bytes:
    """Return a file's bytes. samples: its rows, or a table with the columns of `SCHEMA`."""
    table = samples if isinstance(samples, pa.Table) else build_table(samples)
    noted = json.dumps({"format": FORMAT, **asdict(description)})
    sink = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata({_KEY: noted}), sink, compression="zstd")
    content: bytes = sink.getvalue().to_pybytes()
    return content


def decode_file(content: bytes, name: str) -> tuple[pa.Table, FileDescription]:
    """Read a file's table and its description.

    Parameters
    ----------
    content
        The file's bytes.
    name
        The file's name, for errors.

    Raises
    ------
    IntegrityError
        The file is damaged, or of a newer release.
    """
    try:
        table = pq.read_table(pa.BufferReader(content))
        noted: dict[str, Any] = json.loads((table.schema.metadata or {})[_KEY])
        version = noted.pop("format")
        if version <= FORMAT:
            return table.select(SCHEMA.names).replace_schema_metadata(None), FileDescription(**noted)
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        raise IntegrityError(
            f"{name} is no readable file of request samples ({error}); remove it, or restore it from a backup",
            code="samples.file-damaged",
            file=name,
            reason=str(error),
        ) from error
    raise IntegrityError(
        f"{name} has version {version} of request samples; this release reads up to {FORMAT}; use a newer release",
        code="samples.newer-format",
        file=name,
        format=version,
        newest=FORMAT,
    )
