"""Takes shoppers out of samples: files are written again without their rows."""

from __future__ import annotations

from collections.abc import Collection

import pyarrow as pa
import pyarrow.compute as pc

from endcap.samples.files import decode_file, encode_file
from endcap.samples.places import SamplePlace
from endcap.samples.reading import list_files


def list_recommenders(place: SamplePlace) -> list[str]:
    """List the recommenders that have files in a place."""
    return sorted({name.split("/", 1)[0] for name in place.list("") if "/" in name})


def count_shoppers(
    place: SamplePlace, recommender: str, customers: Collection[str], sessions: Collection[str] = ()
) -> int:
    """Count the samples of shoppers. Parameters and errors are those of `erase_shoppers`."""
    return _visit_files(place, recommender, customers, sessions, erase=False)


def erase_shoppers(
    place: SamplePlace, recommender: str, customers: Collection[str], sessions: Collection[str] = ()
) -> int:
    """Remove the samples of shoppers.

    Parameters
    ----------
    place
        The place of the samples.
    recommender
        The recommender's name.
    customers, sessions
        Pseudonyms, by each key that samples were written with.

    Returns
    -------
    int
        The number of samples that were removed.

    Raises
    ------
    IntegrityError
        A file is damaged, or of a newer release. It may hold samples of these shoppers.
    StorageError, OSError
        The place cannot be read or written to.

    Notes
    -----
    A file is replaced in one step, so a kill leaves it whole, with or without the rows. Nothing else writes a file a
    second time. A predictor that lives may still write what it has sampled in the last minute: call this again then.
    """
    return _visit_files(place, recommender, customers, sessions, erase=True)


def _visit_files(
    place: SamplePlace, recommender: str, customers: Collection[str], sessions: Collection[str], *, erase: bool
) -> int:
    total = 0
    for file in list_files(place, recommender):
        content = place.read(file.name)
        if content is None:
            continue
        table, description = decode_file(content, file.name)
        is_theirs = pc.or_(_is_among(table, "customer", customers), _is_among(table, "session", sessions))
        count = pc.sum(is_theirs).as_py() or 0
        total += count
        if erase and count:
            place.write(file.name, encode_file(table.filter(pc.invert(is_theirs)), description))
    return total


def _is_among(table: pa.Table, column: str, values: Collection[str]) -> pa.ChunkedArray:
    """Return whether each row has one of these values: bool [rows]. A row without a value has none of them."""
    return pc.is_in(table[column], value_set=pa.array(sorted(values), pa.string()))
