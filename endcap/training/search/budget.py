"""The time of a search: what is left of its budget, and of the time to finish after it."""

from __future__ import annotations

from datetime import timedelta

from endcap.spec.search import SearchSpec
from endcap.training.search.record import SearchRecord

_RESERVE, _RESERVE_SHARE = 2.0, 0.03
"""Kept for ending Ray: seconds at most, and share of the time."""


def get_finish_time(search: SearchSpec) -> timedelta:
    """Return how long trials may continue after the time budget."""
    return search.time_budget if search.overtime is None else search.overtime


class Budget:
    """The seconds that a search has left, by its record, which counts killed attempts too.

    Parameters
    ----------
    search
        The search's settings.
    record
        Its record.
    """

    def __init__(self, search: SearchSpec, record: SearchRecord) -> None:
        self._search, self._record = search, record

    @property
    def left(self) -> float:
        """Seconds left for trials."""
        return _subtract_reserve(self._search.time_budget) - (self._record.seconds - self._record.finish_seconds)

    @property
    def finish_left(self) -> float:
        """Seconds left to finish."""
        return _subtract_reserve(get_finish_time(self._search)) - self._record.finish_seconds


def _subtract_reserve(time: timedelta) -> float:
    seconds = time.total_seconds()
    return seconds - min(_RESERVE, _RESERVE_SHARE * seconds)
