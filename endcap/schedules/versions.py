"""What says that there is something new for a schedule, without a look into any file."""

from __future__ import annotations

import glob
import os
import re
from pathlib import Path, PurePosixPath

from endcap.errors import DataError
from endcap.events.data_version import DataListing, list_data
from endcap.events.source_inputs import list_sources
from endcap.sources.local_files import LocalFile
from endcap.sources.s3_sources import SCHEME, find_objects
from endcap.spec.load import Loaded
from endcap.spec.schedule import PartSchedule
from endcap.spec.shop import Shop
from endcap.store import Store, fingerprint

_MAGIC = re.compile(r"[*?[]")


def read_listing(loaded: Loaded, part: str, schedule: PartSchedule, store: Store) -> DataListing:
    """List what a part of a schedule depends on, with its version.

    Parameters
    ----------
    loaded
        The recommender and its shop.
    part
        `features`, `train` or `batch`. Lists also depend on what serves.
    schedule
        Names a marker, which then stands for the data.
    store
        Holds what serves.

    Returns
    -------
    DataListing
        The parts, or the markers. The version is empty if there are no data, or no marker.

    Raises
    ------
    StorageError, TransientError
        A bucket or BigQuery does not answer.
    """
    if schedule.arrival is not None and schedule.arrival.marker:
        listing = _list_markers(loaded.shop, schedule.arrival.marker)
    else:
        try:
            listing = list_data(loaded.shop)
        except DataError:
            return DataListing()
    if not listing.version or part != "batch":
        return listing
    # Imported for lists alone: it takes longer than all the rest.
    from endcap.deploy.state import find_state

    state = find_state(loaded.recommender.name, store)
    served = [] if state is None else sorted(target.package for target in state.targets)
    return DataListing(fingerprint("lists", [listing.version, served]), listing.parts)


def list_places(shop: Shop) -> list[str]:
    """List where the events of a shop lie: folders and objects, up to the first wildcard of a path."""
    paths = [source.source.path for source in list_sources(shop, None) if source.table == "events"]
    return [_cut_wildcard(path) for path in paths if path]


def _list_markers(shop: Shop, marker: str) -> DataListing:
    """List the markers in the folders of a shop's events."""
    found_markers: list[tuple[str, str]] = []
    for place in sorted(set(list_places(shop))):
        folder = place.rpartition("/")[0] if _is_file(place) else place
        pattern = f"{folder.rstrip('/')}/**/{marker}"
        if pattern.startswith(SCHEME):
            objects, _ = find_objects(pattern)
            found_markers += [(entry.name, entry.mark) for entry in objects]
        else:
            files = [LocalFile.find(Path(file)) for file in sorted(glob.glob(pattern, recursive=True))]  # noqa: PTH207
            found_markers += [(file.name, file.mark) for file in files]
    return DataListing(fingerprint("markers", found_markers), dict(found_markers)) if found_markers else DataListing()


def _is_file(place: str) -> bool:
    """Tell whether a place is one file. In a bucket nothing but its name tells, without a request."""
    return bool(PurePosixPath(place).suffix) if place.startswith(SCHEME) else not Path(place).is_dir()


def _cut_wildcard(path: str) -> str:
    magic = _MAGIC.search(path)
    if magic is None:
        return path if path.startswith(SCHEME) else os.path.abspath(path)  # noqa: PTH100 - no link is followed
    return path[: magic.start()].rpartition("/")[0] + "/"
