"""What a predictor tells whom: by every path, what the gateway says that the caller may."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from endcap.errors import EndcapError
from endcap.ranking import RankRequest
from endcap.ranking.request import DiscreetRequest
from endcap_serving.names import SCOPE_HEADER
from endcap_serving.predictor.scopes import GATEWAY, NOBODY, permit_explanations

V1, V2 = "/v1/models/popularity:predict", "/v2/models/popularity/infer"
EXPLAIN = {"items": [], "explain": True}


def v1(predictors: httpx.Client, headers: dict[str, str]) -> httpx.Response:
    return predictors.post(V1, json={"instances": [EXPLAIN]}, headers=headers)


def v2(predictors: httpx.Client, headers: dict[str, str], **more: Any) -> httpx.Response:
    tensor = {"name": "request", "datatype": "BYTES", "shape": [1], "data": [json.dumps(EXPLAIN)]}
    return predictors.post(V2, json={"inputs": [tensor], **more}, headers=headers)


def of_kserve(predictors: httpx.Client, headers: dict[str, str]) -> httpx.Response:
    return v2(predictors, headers, parameters={"a": "b"})


def binary(predictors: httpx.Client, headers: dict[str, str]) -> httpx.Response:
    text = json.dumps(EXPLAIN).encode()
    data = len(text).to_bytes(4, "little") + text
    tensor = {"name": "request", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": len(data)}}
    head = json.dumps({"inputs": [tensor]}).encode()
    sent = {"inference-header-content-length": str(len(head)), "content-type": "application/octet-stream"}
    return predictors.post(V2, content=head + data, headers={**headers, **sent})


@pytest.mark.parametrize("ask", [v1, v2, of_kserve, binary])
def test_an_explanation_needs_the_gateways_word(predictors: httpx.Client, ask: Any) -> None:
    for headers in (
        {},
        {SCOPE_HEADER: "rank"},
        {SCOPE_HEADER: "explained"},
        {SCOPE_HEADER: "explain", "origin": "http://127.0.0.1"},
    ):
        answer = ask(predictors, headers)
        assert (answer.status_code, answer.json()["code"]) == (403, "predictor.explain-forbidden")
        assert answer.json()["fields"]["needs"] == "explain"
    assert ask(predictors, {SCOPE_HEADER: "rank,explain"}).status_code == 200


def test_owned_items_show_only_with_the_scope_owned() -> None:
    plain, explained = RankRequest(items=[]), RankRequest(items=["a"], explain=True, k=3)
    told = permit_explanations([plain, explained], GATEWAY, "rank,explain", from_page=False)
    assert told[0] is plain
    assert isinstance(told[1], DiscreetRequest)
    assert told[1].model_dump() == explained.model_dump()
    assert list(permit_explanations([explained], GATEWAY, "explain,owned", from_page=False)) == [explained]
    assert list(permit_explanations([plain], NOBODY, None, from_page=True)) == [plain]
    with pytest.raises(EndcapError) as refused:
        permit_explanations([explained], NOBODY, "explain,owned", from_page=False)
    assert refused.value.code == "predictor.explain-forbidden"
