"""Removes days of samples, with the catalogues that their rankings used."""

from __future__ import annotations

import re
from datetime import date

from endcap.samples.places import SamplePlace

_DAY = re.compile(r"/date=(\d{4}-\d\d-\d\d)/")


def remove_old_days(place: SamplePlace, recommender: str, first: date) -> int:
    """Remove a recommender's days before `first`. Returns how many files were removed."""
    names = place.list(f"{recommender}/")
    # Days as texts are in the order of time.
    old = [name for name in names if (match := _DAY.search(name)) and match[1] < first.isoformat()]
    if old:
        place.remove(old)
    return len(old)
