"""A search's trials in threads of the test's own process, in place of Ray: quick, and driven by the same queue."""

from __future__ import annotations

import json
import queue
import threading
import time
from pathlib import Path
from typing import Any, Self

from endcap.ray_driver import Driver, Event, WorkerNeeds
from endcap.training.search.job import SearchJob
from endcap.training.search.trial import run
from endcap.training.search.trial_queue import TrialQueue

AT_ONCE = 4


class Threads:
    """What `RayProcess` is to the step. A trial that is cut goes on by itself, unheard: threads cannot be killed."""

    jobs: list[SearchJob]
    """All that were run, by any of them."""

    def __init__(
        self, driver: Driver, work: Path, address: str | None, cpus: int, needs: WorkerNeeds, nice: int = 0
    ) -> None:
        self._events: queue.Queue[Event] = queue.Queue()
        self._events.put({"event": "ready", "limit": AT_ONCE, "CPU": AT_ONCE, "GPU": 0})
        self._alone = threading.RLock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def kill(self) -> None:
        """Nothing to end."""

    def begin(self, job: SearchJob) -> None:
        job = SearchJob.from_json(json.loads(json.dumps(job.to_json())))
        type(self).jobs.append(job)
        threading.Thread(target=self._drive, args=(job,), daemon=True).start()

    def next_event(self, timeout: float) -> Event | None:
        try:
            return self._events.get(timeout=timeout)
        except queue.Empty:
            return None

    def _drive(self, job: SearchJob) -> None:
        trials = TrialQueue(job, lambda event: self._events.put(json.loads(json.dumps(event))))
        while True:
            with self._alone:
                trials.check_time()
                chosen = trials.next()
            if trials.over or chosen == "done":
                break
            if chosen == "wait":
                time.sleep(0.005)
                continue
            number, values = chosen
            threading.Thread(target=self._try, args=(job, trials, number, values), daemon=True).start()
        with self._alone:
            trials.check_time()
        self._events.put({"event": "over"})

    def _try(self, job: SearchJob, trials: TrialQueue, number: int, values: dict[str, Any]) -> None:
        best = float("-inf")

        def report(what: dict[str, Any]) -> bool:
            nonlocal best
            with self._alone:
                if trials.was_cut(number):
                    return False
                if "row" in what:
                    best = max(best, what["row"]["validation"])
                    trials.add_epoch(number, what, int(what["row"]["epoch"]), best)
                else:
                    trials.end_trial(number, what)
            return True

        run(job.task, number, values, report)
