"""Writes samples from a thread of its own. Whoever answers requests never waits for it."""

from __future__ import annotations

import logging
import time
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from queue import Empty, Full, Queue
from threading import Thread
from typing import Literal, get_args

from endcap.errors import EndcapError
from endcap.pseudonyms import Pseudonymiser
from endcap.rules import Catalogue
from endcap.samples.files import FileDescription, encode_file, get_day, name_catalogue, name_file
from endcap.samples.observation import Observation, build_sample
from endcap.samples.places import SamplePlace
from endcap.samples.removal import remove_old_days
from endcap.samples.sampled_request import SampledRequest

SampleOutcome = Literal["written", "over-limit", "queue-full", "too-large", "place-away", "failed", "lost-at-end"]
"""What became of a ranking that belongs to the share: in a file, or why it is in none."""
CLOSE_PATIENCE = 5.0
"""Seconds that the last file may take when a process ends."""
log = logging.getLogger("endcap.samples")


@dataclass(frozen=True)
class WriterLimits:
    """The bounds of a writer.

    Attributes
    ----------
    queue
        Rankings that wait for the thread.
    rows
        Rows of a file.
    seconds
        The age at which a file is closed. A killed process loses what it sampled since then.
    waiting_files
        Closed files that are kept in memory while the place cannot be written to.
    retry
        Seconds between two tries then.
    """

    queue: int = 1000
    rows: int = 2000
    seconds: float = 60.0
    waiting_files: int = 4
    retry: float = 5.0


class SampleWriter:
    """Writes the samples of one process.

    Parameters
    ----------
    open_place
        Opens the place of the files. It is called on the thread, and again until it succeeds.
    recommender
        The recommender's name.
    instance
        A name of this process that no other has.
    pseudonymiser
        Makes the pseudonyms.
    keep
        The days that samples are kept.
    count
        Is called with an outcome for each ranking, from the caller's thread or from the writer's.
    limits
        The bounds.
    """

    def __init__(
        self,
        open_place: Callable[[], SamplePlace],
        recommender: str,
        instance: str,
        pseudonymiser: Pseudonymiser,
        *,
        keep: timedelta,
        count: Callable[[SampleOutcome, int], None],
        limits: WriterLimits | None = None,
    ) -> None:
        self._open_place = open_place
        self._place: SamplePlace | None = None
        self._recommender, self._instance = recommender, instance
        self._pseudonymiser, self._keep = pseudonymiser, keep
        self._report, self._limits = count, limits or WriterLimits()
        # With all names from the start, so that one thread may copy it while another counts.
        self._outcomes: dict[SampleOutcome, int] = dict.fromkeys(get_args(SampleOutcome), 0)
        self._queue: Queue[Observation | None] = Queue(self._limits.queue)
        self._rows: list[SampledRequest] = []
        self._opened = 0.0
        """When the first of `rows` came, by `time.monotonic`."""
        self._sequence = 0
        self._waiting: deque[_WaitingFile] = deque()
        self._retry_at = 0.0
        self._noted_catalogues: set[tuple[date, str]] = set()
        self._swept: date | None = None
        self._failing = False
        self._thread = Thread(target=self._run, name="samples", daemon=True)
        self._thread.start()

    def offer(self, observation: Observation) -> None:
        """Hand over a ranking. Returns at once. A ranking that finds the queue full is dropped and counted."""
        try:
            self._queue.put_nowait(observation)
        except Full:
            self.count("queue-full")

    def count(self, outcome: SampleOutcome, rankings: int = 1) -> None:
        """Count rankings by what became of them."""
        self._outcomes[outcome] += rankings
        self._report(outcome, rankings)

    def close(self, patience: float = CLOSE_PATIENCE) -> None:
        """Write what there is, and end. Waits `patience` seconds at most; what is not written then is lost, counted."""
        deadline = time.monotonic() + patience
        try:
            self._queue.put(None, timeout=patience)
        except Full:
            log.warning("the writer of request samples does not end", extra={"waiting": self._queue.qsize()})
        self._thread.join(max(0.0, deadline - time.monotonic()))
        lost = self._queue.qsize() + len(self._rows) + sum(file.rows for file in list(self._waiting))
        if lost:
            self.count("lost-at-end", lost)
            log.error("request samples are lost at the end", extra={"samples": lost})

    def _run(self) -> None:
        is_open = True
        while is_open:
            try:
                observation = self._queue.get(timeout=self._compute_wait())
            except Empty:
                pass
            else:
                is_open = observation is not None
                if observation is not None:
                    self._add(observation)
            try:
                if not is_open or self._is_due():
                    self._close_files(ended=not is_open)
                if self._waiting and (not is_open or time.monotonic() >= self._retry_at):
                    self._write_waiting()
            except Exception:
                # The next file may be written. The thread must not end before its process.
                log.exception("writing request samples failed")
                self.count("failed", len(self._rows) + sum(file.rows for file in self._waiting))
                self._rows.clear()
                self._waiting.clear()

    def _add(self, observation: Observation) -> None:
        """Build the sample of an observation, and add it to the open rows."""
        if len(self._waiting) >= self._limits.waiting_files:
            self.count("place-away")
            return
        try:
            sample = build_sample(
                observation, self._recommender, self._pseudonymiser.pseudonymise, self._pseudonymiser.key_id
            )
        except Exception:
            self.count("failed")
            log.exception("a request sample cannot be built")
            return
        if sample is None:
            self.count("too-large")
            return
        if not self._rows:
            self._opened = time.monotonic()
        self._rows.append(sample)
        catalogue, day = observation.catalogue, get_day(sample.time)
        if catalogue is not None and (day, catalogue.version) not in self._noted_catalogues:
            self._noted_catalogues.add((day, catalogue.version))
            name = name_catalogue(self._recommender, day, catalogue.version)
            self._waiting.append(_WaitingFile(name, catalogue))

    def _is_due(self) -> bool:
        """Return whether the open rows are to become files."""
        if not self._rows:
            return False
        return len(self._rows) >= self._limits.rows or time.monotonic() - self._opened >= self._limits.seconds

    def _compute_wait(self) -> float | None:
        """Compute how long the thread may wait for the next observation; None: for ever."""
        moments = [self._opened + self._limits.seconds] if self._rows else []
        moments += [self._retry_at] if self._waiting else []
        return max(0.01, min(moments) - time.monotonic()) if moments else None

    def _close_files(self, *, ended: bool) -> None:
        """Make files of the open rows, one for each day."""
        by_day = defaultdict[date, list[SampledRequest]](list)
        for row in self._rows:
            by_day[get_day(row.time)].append(row)
        if ended and not by_day and self._sequence:
            # A file without rows says that the process ended in order.
            by_day[datetime.now(UTC).date()] = []
        for number, (day, rows) in enumerate(sorted(by_day.items()), start=1):
            is_last = ended and number == len(by_day)
            outcomes = {str(outcome): rankings for outcome, rankings in self._outcomes.items()}
            outcomes["written"] += len(self._rows)
            description = FileDescription(self._instance, self._sequence, is_last, outcomes)
            content = encode_file(rows, description)
            name = name_file(self._recommender, day, self._instance, self._sequence)
            self._waiting.append(_WaitingFile(name, content, len(rows)))
            self._sequence += 1
        self._rows.clear()

    def _write_waiting(self) -> None:
        """Write the files that wait, in order. After a failure they wait for the next try."""
        try:
            if self._place is None:
                self._place = self._open_place()
            while self._waiting:
                file = self._waiting[0]
                if isinstance(file.content, bytes):
                    self._place.write(file.name, file.content)
                elif not self._place.exists(file.name):
                    self._place.write(file.name, file.content.to_bytes())
                self._waiting.popleft()
                if file.rows:
                    self.count("written", file.rows)
            self._failing = False
            self._sweep(self._place)
        except (EndcapError, OSError) as error:
            self._retry_at = time.monotonic() + self._limits.retry
            if not self._failing:
                log.warning(
                    "request samples cannot be written; they wait",
                    extra={"error": str(error), "files": len(self._waiting), "code": getattr(error, "code", None)},
                )
            self._failing = True

    def _sweep(self, place: SamplePlace) -> None:
        """Once a day, remove the days that are no longer to be kept."""
        today = datetime.now(UTC).date()
        if self._swept != today:
            removed = remove_old_days(place, self._recommender, today - self._keep)
            self._swept = today
            self._noted_catalogues = {noted for noted in self._noted_catalogues if noted[0] >= today - timedelta(1)}
            if removed:
                log.info("old request samples are removed", extra={"files": removed, "keep": str(self._keep)})


@dataclass(frozen=True)
class _WaitingFile:
    """A closed file with so many samples, or a catalogue, which another process may have written before."""

    name: str
    content: bytes | Catalogue
    rows: int = 0
