"""Batches: requests that arrive while others are ranked make the next batch.

No request waits until a batch is full. One batch is ranked at a time: two computations at once on one core only make
both late, and a GPU takes one batch at a time anyway, a larger one for little more.

Brief rankings are made on the event loop, some milliseconds of them in one turn, because waking a thread and sharing
the interpreter's lock with it takes as long again. All other rankings are made on a thread of their own. Meanwhile the
event loop answers probes and refuses requests that would wait too long.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from queue import SimpleQueue
from typing import Generic, Protocol, TypeVar

from endcap_serving.predictor.admission import Admission

MOST = 128
"""Requests in one batch."""
SLICE = 0.025
"""Seconds that a batch may take. Requests that arrive meanwhile wait for its end."""

BRIEF = 0.005
"""Seconds of brief rankings in one turn of the event loop. A ranking is brief if it takes half of that at most."""

Q = TypeVar("Q")
A = TypeVar("A")


class BatchObserver(Protocol):
    """Gets the times of each batch. The event loop and the ranking thread call it."""

    def record_batch(self, requests: int, seconds: float, waits: Sequence[float]) -> None:
        """Record a batch: its requests, the seconds that it took, and the seconds that its new calls had waited."""


@dataclass(slots=True, eq=False)
class _Call(Generic[Q, A]):
    """The requests of one caller, and their answers so far. weight: how many requests others must wait for."""

    requests: Sequence[Q]
    future: asyncio.Future[list[A]]
    weight: int
    arrived: float
    answers: list[A] = field(default_factory=list)
    error: Exception | None = None

    @property
    def is_done(self) -> bool:
        return self.error is not None or len(self.answers) == len(self.requests)


class Batcher(Generic[Q, A]):
    """Hands requests to a function in batches. Calls of many requests take turns with others.

    Parameters
    ----------
    work
        Returns one answer for each request, in order. If it raises, only the calls that cause the error get it.
    admission
        Counts waiting requests and gets the times.
    observer
        Gets the times of each batch.
    must_wait
        Whether `work` may have to wait for another server at a request. The event loop must not wait.
    brief
        See `BRIEF`.
    """

    def __init__(
        self,
        work: Callable[[list[Q]], list[A]],
        admission: Admission,
        observer: BatchObserver,
        *,
        must_wait: Callable[[Q], bool] = lambda request: False,
        brief: float = BRIEF,
    ) -> None:

        self._work = work
        self._must_wait = must_wait
        self._brief = brief
        self._admission = admission
        self._observer = observer
        self._fresh: deque[_Call[Q, A]] = deque()
        self._last_end, self._had_waiting = 0.0, False
        """When the last batch ended, and whether any request waited then."""
        self._handed_calls = 0
        """Calls that the thread has not answered yet. The event loop ranks only while there are none."""
        self._queue: SimpleQueue[list[_Call[Q, A]] | None] = SimpleQueue()
        self._waiting: deque[_Call[Q, A]] = deque()
        self._current: list[_Call[Q, A]] = []
        self._thread_error: BaseException | None = None
        self._batch_start = 0.0
        self._thread = threading.Thread(target=self._run, name="ranking", daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def busy_seconds(self) -> float:
        """Seconds that the current batch has taken so far; 0 if there is none."""
        start_time = self._batch_start
        return time.monotonic() - start_time if start_time else 0.0

    def submit(self, requests: Sequence[Q]) -> asyncio.Future[list[A]]:
        """Have requests ranked. Call it on the event loop.

        Parameters
        ----------
        requests
            The requests of one call.

        Returns
        -------
        asyncio.Future
            The answers, in order. It raises what `work` raised, or RuntimeError if the ranking thread has ended.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[A]] = loop.create_future()
        if self._thread_error is not None:
            future.set_exception(RuntimeError(f"the ranking thread has ended: {self._thread_error!r}"))
            return future
        call: _Call[Q, A] = _Call(requests, future, min(len(requests), self._compute_room(SLICE)), time.perf_counter())
        self._admission.waiting += call.weight
        if not self._fresh:
            # The turn comes after all calls of this turn of the loop.
            loop.call_soon(self._take_turn)
        self._fresh.append(call)
        return future

    def close(self, patience: float = 5.0) -> None:
        """Rank what waits, and end the thread. Waits `patience` seconds at most."""
        self._queue.put(None)
        self._thread.join(patience)

    def _take_turn(self) -> None:
        """On the event loop: rank some of the new calls, or hand all of them to the thread."""
        is_brief = 2 * self._admission.mean_seconds <= self._brief and self._thread_error is None
        if (
            is_brief
            and not self._handed_calls
            and not any(map(self._must_wait, chain(*(call.requests for call in self._fresh))))
        ):
            self._deliver(self._rank(self._fresh, self._brief))
            if self._fresh:
                asyncio.get_running_loop().call_soon(self._take_turn)
        else:
            self._handed_calls += len(self._fresh)
            self._queue.put(list(self._fresh))
            self._fresh.clear()

    def _compute_room(self, seconds: float) -> int:
        """Compute how many requests can be ranked in these seconds."""
        return max(1, min(MOST, int(seconds / self._admission.mean_seconds)))

    def _run(self) -> None:
        try:
            while self._collect_calls():
                self._hand_over(self._rank(self._waiting, SLICE))
        except BaseException as error:
            self._thread_error = error
            self._give_up()
            raise

    def _give_up(self) -> None:
        """Fail all calls that wait for the thread, which has ended."""
        calls = [*self._current, *self._waiting]
        while not self._queue.empty():
            calls += self._queue.get() or []
        for call in calls:
            call.error = RuntimeError(f"the ranking thread has ended: {self._thread_error!r}")
        self._hand_over(calls)

    def _collect_calls(self) -> bool:
        """Collect all new calls; wait for one if there is nothing to do. Returns False at the end."""
        while not self._waiting or not self._queue.empty():
            calls = self._queue.get()
            if calls is None:
                # The calls before the end are still ranked, and the queue never blocks again.
                self._queue.put(None)
                return bool(self._waiting)
            self._waiting += calls
        return True

    def _rank(self, waiting: deque[_Call[Q, A]], seconds: float) -> list[_Call[Q, A]]:
        """Rank as many requests as fit into these seconds. Returns the calls that are done."""
        parts, start_time = self._take_parts(waiting, self._compute_room(seconds)), time.perf_counter()
        self._current = [call for call, _ in parts]
        self._batch_start = time.monotonic()
        waits = [start_time - call.arrived for call, _ in parts if not call.answers]
        try:
            answers = iter(self._work([request for _, part in parts for request in part]))
            for call, part in parts:
                call.answers += islice(answers, len(part))
        except Exception:
            self._rank_singly(parts)
        duration, count = time.perf_counter() - start_time, sum(len(part) for _, part in parts)
        self._batch_start = 0.0
        end_time = start_time + duration
        self._admission.record_batch(duration, count, end_time - self._last_end if self._had_waiting else None)
        self._observer.record_batch(count, duration, waits)
        self._current = []
        # Calls that are not done go to the back, so a call of many takes turns with others.
        waiting.extend(call for call, _ in parts if not call.is_done)
        self._last_end, self._had_waiting = end_time, bool(waiting)
        return [call for call, _ in parts if call.is_done]

    def _take_parts(self, waiting: deque[_Call[Q, A]], room: int) -> list[tuple[_Call[Q, A], Sequence[Q]]]:
        """Take the next batch: calls in the order of their arrival, each with its next requests."""
        parts = []
        while room > 0 and waiting:
            call = waiting.popleft()
            start = len(call.answers)
            part = call.requests[start : start + room]
            parts.append((call, part))
            room -= len(part)
        return parts

    def _rank_singly(self, parts: Sequence[tuple[_Call[Q, A], Sequence[Q]]]) -> None:
        """Rank each call on its own after an error, so that only the call that causes the error gets it."""
        for call, part in parts:
            try:
                call.answers += self._work(list(part))
            except Exception as error:
                call.error = error

    def _hand_over(self, done: list[_Call[Q, A]]) -> None:
        """Hand the calls that are done from the thread to the event loop."""
        if done:
            # The loop is closed if the server gave up on its last requests.
            with contextlib.suppress(RuntimeError):
                done[0].future.get_loop().call_soon_threadsafe(self._take_back, done)

    def _take_back(self, done: Sequence[_Call[Q, A]]) -> None:
        self._handed_calls -= len(done)
        self._deliver(done)

    def _deliver(self, done: Sequence[_Call[Q, A]]) -> None:
        for call in done:
            self._admission.waiting -= call.weight
            if call.future.cancelled():
                continue
            if call.error is not None:
                call.future.set_exception(call.error)
            else:
                call.future.set_result(call.answers)
