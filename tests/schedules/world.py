"""What schedulers in tests share: a clock, data that change, processes that live or are killed, and one store."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from datetime import datetime, timedelta

from endcap.events.data_version import DataListing
from endcap.schedules.part_look import ScheduledPart, SchedulerSurroundings
from endcap.spec.load import Loaded, load
from endcap.spec.schedule import PartSchedule
from endcap.spec.spec_files import find_spec
from endcap.store import Store


class Killed(BaseException):
    """A kill where it strikes."""


class SchedulerWorld:
    """A clock, data that change, processes, and a place at which the next kill strikes."""

    def __init__(self, store: Store, schedule: PartSchedule, seed: int, now: datetime) -> None:
        self.store, self.chance = store, random.Random(seed)
        self.now, self.seconds, self.version = now, 0.0, "v0"
        self.alive: set[int] = set()
        self.pids = itertools.count(100)
        self.trained: list[str] = []
        self.kill_at = ""
        loaded = load(find_spec("trial"))
        self.parts = [ScheduledPart(Loaded(loaded.recommender, loaded.shop, []), "train", schedule)]

    def make_surroundings(self, host: str, list_data: Callable[[], DataListing]) -> SchedulerSurroundings:
        """What a new scheduler of a host asks. It lives from now on."""
        pid = next(self.pids)
        self.alive.add(pid)
        return SchedulerSurroundings(
            now=lambda: self.now,
            monotonic=lambda: self.seconds,
            host=host,
            pid=pid,
            is_alive=self.alive.__contains__,
            read_listing=lambda *_: list_data(),
        )

    def pass_time(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        self.seconds += seconds

    def strike(self, place: str) -> None:
        """Raise Killed if the next kill is to strike here."""
        if self.kill_at == place:
            self.kill_at = ""
            raise Killed(place)
