"""A cheap version of a shop's data: it says whether there is something new to ingest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from endcap.events.source_inputs import list_sources
from endcap.sources.find import read_versions
from endcap.spec.shop import Shop
from endcap.store import fingerprint


@dataclass(frozen=True)
class DataListing:
    """The parts of a shop's data, such as files and partitions of tables, as they were listed.

    Attributes
    ----------
    version
        The listing's fingerprint; empty if there are no data.
    parts
        The name of each part, with a mark that differs when the part does.
    """

    version: str = ""
    parts: Mapping[str, str] = field(default_factory=dict, repr=False)


def read_data_version(shop: Shop, *, until: datetime | None = None) -> str:
    """Fingerprint the listing of a shop's data. No file is opened, and no row of a table is read.

    Parameters
    ----------
    shop
        The shop's spec, which names its sources.
    until
        The logical date, as `endcap.events.ingest` takes it.

    Returns
    -------
    str
        The fingerprint, 20 hexadecimal digits. It differs when a file came, went or was written anew, or a table of
        BigQuery changed; also when only other rights were given to a local file. Where nobody can say whether a view's
        or query's rows changed, each call differs.

    Raises
    ------
    DataError
        If a source has no file.
    StorageError, TransientError
        If a bucket or BigQuery does not answer.
    """
    return list_data(shop, until=until).version


def list_data(shop: Shop, *, until: datetime | None = None) -> DataListing:
    """List a shop's data with their version. Parameters and errors are those of `read_data_version`."""
    versions: list[object] = []
    listed: dict[str, str] = {}
    for declared in list_sources(shop, until):
        source = declared.source
        if source.simulated is not None:
            versions.append([declared.table, source.simulated.model_dump(mode="json")])
        else:
            parts = read_versions(source, days=declared.days, time=declared.time)
            versions.append([declared.table, source.path, parts])
            listed.update(parts)
    return DataListing(fingerprint("data", versions), listed)
