"""How requests come together, take turns, fail alone, and are turned away before they wait too long."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest

from endcap_serving.predictor.admission import Admission
from endcap_serving.predictor.batcher import BRIEF, MOST, SLICE, Batcher
from endcap_serving.predictor.health import Health


class Seen:
    """Sizes of batches, and the waits of calls."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.waits: list[float] = []

    def record_batch(self, requests: int, seconds: float, waits: Sequence[float]) -> None:
        self.sizes.append(requests)
        self.waits += waits


class Gate:
    """Work that waits to be let go on."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.begun = threading.Event()
        self.batches: list[list[str]] = []

    def __call__(self, requests: list[str]) -> list[str]:
        self.batches.append(requests)
        self.begun.set()
        self.open.wait(10)
        return [f"{request}!" for request in requests]


@contextmanager
def batcher(work: Callable[[list[str]], list[str]], brief: float = 0.0) -> Iterator[tuple[Batcher[str, str], Seen]]:
    """Of rankings that are none of them brief, so that all are made on the thread."""
    seen = Seen()
    made = Batcher(work, Admission(10.0), seen, must_wait=lambda request: request == "waits", brief=brief)
    yield made, seen
    made.close()


def test_requests_that_arrive_while_a_batch_is_ranked_make_the_next_batch() -> None:
    gate = Gate()

    async def asks(made: Batcher[str, str]) -> list[list[str]]:
        first = made.submit(["a"])
        await asyncio.to_thread(gate.begun.wait, 10)
        others = [made.submit([name]) for name in "bcd"]
        gate.open.set()
        return await asyncio.gather(first, *others)

    with batcher(gate) as (made, seen):
        assert asyncio.run(asks(made)) == [["a!"], ["b!"], ["c!"], ["d!"]]
    assert gate.batches == [["a"], ["b", "c", "d"]]
    assert seen.sizes == [1, 3]
    assert len(seen.waits) == 4


def test_a_call_of_many_takes_turns_with_others() -> None:
    gate = Gate()

    async def asks(made: Batcher[str, str]) -> list[list[str]]:
        first = made.submit(["a"])
        await asyncio.to_thread(gate.begun.wait, 10)
        many = made.submit([f"m{number}" for number in range(3 * MOST)])
        single = made.submit(["b"])
        gate.open.set()
        return await asyncio.gather(first, many, single)

    with batcher(gate) as (made, _):
        _, many, single = asyncio.run(asks(made))
    assert single == ["b!"]
    assert many == [f"m{number}!" for number in range(3 * MOST)]
    turn = next(number for number, batch in enumerate(gate.batches) if "b" in batch)
    assert turn == 2
    assert max(map(len, gate.batches)) <= MOST


def test_brief_rankings_are_made_on_the_loop_and_others_and_what_waits_on_the_thread() -> None:
    ranked_by: list[tuple[str, list[str]]] = []

    def work(requests: list[str]) -> list[str]:
        ranked_by.append((threading.current_thread().name, requests))
        return requests

    async def asks(made: Batcher[str, str]) -> None:
        here = threading.current_thread().name
        await asyncio.gather(made.submit(["a"]), made.submit(["b"]))
        assert ranked_by.pop() == (here, ["a", "b"])
        # While the thread has something, all goes there: never are two batches ranked at once.
        await asyncio.gather(made.submit(["waits"]), made.submit(["c"]))
        assert ranked_by.pop() == ("ranking", ["waits", "c"])
        many = await made.submit(["d"] * 4 * MOST)
        assert len(many) == 4 * MOST
        assert {name for name, _ in ranked_by} == {here}
        made._admission.record_batch(100 * BRIEF, 100)
        await made.submit(["e"])
        assert ranked_by.pop() == ("ranking", ["e"])

    with batcher(work, BRIEF) as (made, _):
        asyncio.run(asks(made))
        assert made._admission.waiting == 0


def test_an_error_is_the_answer_to_who_causes_it_alone() -> None:
    def work(requests: list[str]) -> list[str]:
        if "bad" in requests:
            raise ValueError("bad")
        return requests

    async def asks(made: Batcher[str, str]) -> list[object]:
        calls = [made.submit([name]) for name in ("a", "bad", "b")]
        return list(await asyncio.gather(*calls, return_exceptions=True))

    with batcher(work) as (made, _):
        first, second, third = asyncio.run(asks(made))
        assert (first, third) == (["a"], ["b"])
        assert isinstance(second, ValueError)
        assert made.is_alive


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_when_the_ranking_thread_ends_nobody_waits_and_the_process_is_not_live() -> None:
    def work(requests: list[str]) -> list[str]:
        raise SystemExit

    async def asks(made: Batcher[str, str]) -> list[object]:
        first = await asyncio.gather(made.submit(["a"]), return_exceptions=True)
        await asyncio.sleep(0.05)
        return first + await asyncio.gather(made.submit(["b"]), return_exceptions=True)

    with batcher(work) as (made, _):
        health = Health()
        health.watch([made])
        assert health.live
        assert all("the ranking thread has ended" in str(error) for error in asyncio.run(asks(made)))
        assert not health.live


def test_a_request_that_would_wait_too_long_is_refused_until_the_queue_is_empty() -> None:
    admission = Admission(0.1)
    assert not admission.is_full
    admission.record_batch(64 * 0.01, 64)
    admission.waiting = 5
    assert (admission.is_full, admission.retry_after) == (False, 1)
    admission.waiting = 500
    assert (admission.is_full, admission.retry_after) == (True, 4)
    # A model that takes longer than anybody may wait answers one at a time all the same.
    admission.record_batch(64 * 2.0, 64)
    admission.waiting = 0
    assert not admission.is_full


def test_batches_of_a_slow_model_are_small() -> None:
    gate = Gate()
    gate.open.set()

    async def asks(made: Batcher[str, str]) -> None:
        await made.submit(["x"] * 4 * MOST)

    with batcher(gate) as (made, _):
        made._admission.record_batch(1000 * SLICE / 5, 1000)
        asyncio.run(asks(made))
    assert len(gate.batches[0]) <= 6
