"""Reads samples and the catalogues that their rankings used."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from endcap.rules import Catalogue
from endcap.samples.files import CATALOGUE_PREFIX, SampleFile, decode_file, get_day, parse_name
from endcap.samples.places import SamplePlace, open_place
from endcap.samples.sampled_request import SampledRequest, iterate_rows


def read_samples(
    address: str, recommender: str, since: datetime | None = None, until: datetime | None = None
) -> Iterator[SampledRequest]:
    """Read the samples of a recommender.

    Parameters
    ----------
    address
        Where the samples lie: a folder, or ``s3://bucket/prefix``.
    recommender
        The recommender's name.
    since, until
        Only rankings made at `since` or later, and before `until`. None: no bound.

    Yields
    ------
    SampledRequest
        The samples, day by day. Within a day they are in the order of files, and not of time. Nothing, if there are
        none.

    Raises
    ------
    UserError
        The address is neither a folder nor a bucket.
    IntegrityError
        A file is damaged, or of a newer release.
    StorageError, OSError
        The place cannot be read.
    """
    first = None if since is None else round(since.timestamp() * 1000)
    end = None if until is None else round(until.timestamp() * 1000)
    place = open_place(address)
    for file in list_files(place, recommender):
        if first is not None and file.day < get_day(first):
            continue
        if end is not None and file.day > get_day(end):
            continue
        content = place.read(file.name)
        if content is None:
            continue  # its days to be kept ended meanwhile
        for sample in iterate_rows(decode_file(content, file.name)[0]):
            if (first is None or sample.time >= first) and (end is None or sample.time < end):
                yield sample


def list_files(place: SamplePlace, recommender: str) -> list[SampleFile]:
    """List the files of a recommender's samples, by day, instance and number."""
    files = [file for name in place.list(f"{recommender}/") if (file := parse_name(name)) is not None]
    return sorted(files, key=lambda file: (file.day, file.instance, file.sequence))


def read_catalogue(address: str, recommender: str, version: str) -> Catalogue | None:
    """Read a catalogue that sampled rankings used.

    Parameters
    ----------
    address, recommender
        As in `read_samples`.
    version
        `SampledRequest.catalogue`.

    Returns
    -------
    Catalogue or None
        The catalogue; None if no day has it any more.

    Raises
    ------
    IntegrityError
        Its file is damaged.
    StorageError, OSError
        The place cannot be read.
    """
    place = open_place(address)
    ending = f"/{CATALOGUE_PREFIX}{version}.arrow"
    for name in place.list(f"{recommender}/"):
        content = place.read(name) if name.endswith(ending) else None
        if content is not None:
            return Catalogue.from_bytes(content)
    return None
