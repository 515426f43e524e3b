"""Three times as many requests as can be answered: who is let in is answered soon, and the others are told at once."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import httpx

from .many import SLOW

PATH = "/v1/models/slow:predict"
CALLERS = 40
PAUSE = 0.2
LONGEST_WAIT = 0.1
"""`serving.max_wait`, which the test's recommenders leave as it is."""


def test_past_its_capacity_it_answers_at_once_and_what_it_accepts_does_not_wait_long(predictors: httpx.Client) -> None:
    """All let in, each would wait for most of the others: 0.6 s."""
    end = time.monotonic() + 3.0

    def ask(_: int) -> list[tuple[httpx.Response, float]]:
        told = []
        with httpx.Client(base_url=predictors.base_url, timeout=30) as client:
            while (began := time.monotonic()) < end:
                answer = client.post(PATH, json={"instances": [{"items": []}]})
                told.append((answer, time.monotonic() - began))
                time.sleep(PAUSE)
        return told

    with ThreadPoolExecutor(CALLERS) as threads:
        told = [one for some in threads.map(ask, range(CALLERS)) for one in some]
    accepted = sorted(seconds for answer, seconds in told if answer.status_code == 200)
    refused = [answer for answer, _ in told if answer.status_code == 503]
    waited = sorted(seconds for answer, seconds in told if answer.status_code == 503)
    assert len(accepted) + len(refused) == len(told)
    # It goes on working at its capacity meanwhile.
    assert len(accepted) > 0.5 * 3.0 / SLOW
    assert len(refused) > len(accepted)
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
    assert {answer.json()["code"] for answer in refused} == {"predictor.overloaded"}
    assert all(str(answer.json()["fields"]["retry_after"]) == answer.headers["retry-after"] for answer in refused)
    assert accepted[len(accepted) * 9 // 10] < LONGEST_WAIT + 0.25
    assert waited[len(waited) // 2] < 0.05
    # And when it is over, it is over.
    assert predictors.post(PATH, json={"instances": [{"items": []}]}).status_code == 200
