"""What is served is what was judged: each model's own offline ranking of 1,000 test sessions.

A quarter of them are of customers that no model knows.
"""

from __future__ import annotations

import json
from typing import Any

import httpx
import numpy as np
import pytest

from endcap.features.sessions import Sessions
from endcap.models import NO_ITEM
from tests.serving.conftest import CUSTOMERS, MODELS, Shop, customer, sessions

K = 20
SESSIONS = 1000


def asked_sessions() -> Sessions:
    return sessions(SESSIONS, seed=2, customers=CUSTOMERS + CUSTOMERS // 3)


def instances(shop: Shop) -> list[dict[str, Any]]:
    """The test sessions as requests: items alone and events with their times in turn."""
    test = asked_sessions()
    asked: list[dict[str, Any]] = []
    for row in range(SESSIONS):
        events = range(test.offsets[row], test.offsets[row + 1])
        ids = [shop.ids[test.items[event]] for event in events]
        who = customer(int(test.customers[row]))
        if row % 2:
            asked.append({"items": ids, "customer": who, "k": K})
        else:
            timed = [{"item": item, "time": int(test.times[event])} for item, event in zip(ids, events, strict=True)]
            asked.append({"events": timed, "customer": who, "k": K})
    return asked


def ask_v1(client: httpx.Client, model: str, asked: list[dict[str, Any]]) -> list[dict[str, Any]]:
    answer = client.post(f"/v1/models/{model}:predict", json={"instances": asked})
    assert answer.status_code == 200, answer.text
    rankings: list[dict[str, Any]] = answer.json()["predictions"]
    return rankings


def ask_v2(client: httpx.Client, model: str, asked: list[dict[str, Any]]) -> list[dict[str, Any]]:
    data = [json.dumps(instance) for instance in asked]
    tensor = {"name": "request", "shape": [len(data)], "datatype": "BYTES", "data": data}
    answer = client.post(f"/v2/models/{model}/infer", json={"inputs": [tensor]})
    assert answer.status_code == 200, answer.text
    (output,) = answer.json()["outputs"]
    assert (output["name"], output["datatype"], output["shape"]) == ("ranking", "BYTES", [len(data)])
    return [json.loads(text) for text in output["data"]]


@pytest.mark.parametrize("model", MODELS)
def test_the_served_answer_is_the_offline_ranking(predictors: httpx.Client, shop: Shop, model: str) -> None:
    asked = instances(shop)
    served: list[dict[str, Any]] = []
    # Single calls and batches, V1 and V2, in turn.
    for turn, size in enumerate([1, 37, 5, 2, 1, 64] * 10):
        ask = (ask_v1, ask_v2)[turn // 3 % 2]
        served += ask(predictors, model, asked[len(served) : len(served) + size])
        if len(served) == SESSIONS:
            break
    assert len(served) == SESSIONS
    offline = shop.fitted[model].recommend(asked_sessions(), K)
    for row, answer in enumerate(served):
        ranked = offline.items[row][offline.items[row] != NO_ITEM]
        scored = [one for one in answer["items"] if one["score"] is not None]
        assert [one["item"] for one in scored] == [shop.ids[item] for item in ranked]
        own = offline.scores[row, : len(ranked)]
        np.testing.assert_allclose([one["score"] for one in scored], own, rtol=1e-5, atol=1e-6)
        # Where the model has no opinion on so many, popular items fill up.
        assert len(answer["items"]) == K
