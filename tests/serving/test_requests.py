"""What a caller may send wrong: always a 400 that says what is wrong and where, never a 500."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from .conftest import CATEGORIES, N_ITEMS, Shop

V1 = "/v1/models/sequential-rules:predict"
V2 = "/v2/models/sequential-rules/infer"
JSON = {"content-type": "application/json"}


def ask(client: httpx.Client, instance: Any, **headers: str) -> dict[str, Any]:
    answer = client.post(V1, json={"instances": [instance]}, headers=headers)
    assert answer.status_code == 200, answer.text
    (ranking,) = answer.json()["predictions"]
    assert isinstance(ranking, dict)
    return ranking


def tensor(*elements: Any, **changes: Any) -> dict[str, Any]:
    return {"name": "request", "shape": [len(elements)], "datatype": "BYTES", "data": list(elements), **changes}


def assert_refused(answer: httpx.Response, *words: str) -> None:
    assert answer.status_code == 400, answer.text
    message = answer.json()["error"]
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("instance", "words"),
    [
        ({"items": "boot"}, ["instance 0", "items", "'boot'", "a list of item ids"]),
        ({"items": [1, 2]}, ["instance 0", "items.0", "1 (int)", "in quotes"]),
        ({"itms": ["a"]}, ["unknown key", "did you mean items"]),
        ({}, ["exactly one of"]),
        ([], ["instance 0", "an object"]),
        (None, ["instance 0", "None"]),
        ({"items": [], "k": 0}, ["k: found 0", "1 to 1,000"]),
        ({"items": [], "k": 1_000_000}, ["k: found 1000000", "1 to 1,000"]),
        ({"items": [], "k": 2.5}, ["k: found 2.5", "a whole number"]),
        ({"items": [], "category": "botts"}, ["category", "botts", "nearest", "boots"]),
        ({"items": ["a"] * 10_001}, ["items: found 10,001", "at most 10,000"]),
        ({"events": [{"item": "a", "time": 12}]}, ["events.0.time", "before 1990"]),
        ({"items": [], "candidates": []}, ["candidates", "empty"]),
    ],
)
def test_a_wrong_instance_is_refused_in_v1_and_v2(predictors: httpx.Client, instance: Any, words: list[str]) -> None:
    assert_refused(predictors.post(V1, json={"instances": [instance]}), *words)
    assert_refused(predictors.post(V2, json={"inputs": [tensor(json.dumps(instance))]}), *words)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", ["empty"]),
        (b"items=a", ["not JSON", "line 1 column 1"]),
        (b'{"instances": [{"items": ["a"]}', ["not JSON"]),
        (b'{"instances": [{"items": [], "k": NaN}]}', ["not JSON", "line 1 column"]),
        (b'{"instances": [{"items": ["\xff"]}]}', ["not JSON"]),
        (b'{"instances": [{"items": ["\\ud800"]}]}', ["not JSON"]),
        (b"[" * 100_000, ["not JSON"]),
        (b'[{"items": []}]', ["a list", "instances"]),
        (b"7", ["a number"]),
        (b"{}", ["instances: found nothing"]),
        (b'{"instances": {"items": []}}', ["instances: found an object", "a list"]),
        (b'{"instances": []}', ["instances: found 0", "1 to 1,024"]),
        (b'{"instances": [{"items": []}], "k": 3}', ["unknown key 'k'"]),
    ],
)
@pytest.mark.parametrize("declared", ["application/json", "text/plain", "application/octet-stream", None])
def test_a_wrong_body_is_refused(predictors: httpx.Client, body: bytes, words: list[str], declared: str | None) -> None:
    headers = {} if declared is None else {"content-type": declared}
    assert_refused(predictors.post(V1, content=body, headers=headers), *words)


@pytest.mark.parametrize(
    "declared", ["application/json; charset=utf-8", "text/plain", "application/x-www-form-urlencoded"]
)
def test_json_is_read_whatever_it_is_declared_as(predictors: httpx.Client, declared: str) -> None:
    headers = {"content-type": declared}
    v1 = predictors.post(V1, content=b'{"instances": [{"items": [], "k": 2}]}', headers=headers)
    assert len(v1.json()["predictions"][0]["items"]) == 2
    body = json.dumps({"inputs": [tensor('{"items": [], "k": 2}')]})
    v2 = predictors.post(V2, content=body.encode(), headers=headers)
    assert len(json.loads(v2.json()["outputs"][0]["data"][0])["items"]) == 2


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, ["inputs", "request"]),
        ({"inputs": []}, ["inputs", "[]"]),
        ({"inputs": [tensor("{}", name="sessions")]}, ["sessions", 'named "request"']),
        ({"inputs": [tensor("{}"), tensor("{}")]}, ["one BYTES tensor"]),
        ({"inputs": [tensor(1, datatype="INT64")]}, ["INT64", "BYTES"]),
        ({"inputs": [tensor(1)]}, ["instance 0", "a number"]),
        ({"inputs": [tensor("{", "{}")]}, ["instance 0", "not JSON"]),
        ({"inputs": [tensor('{"items": []}', "{")]}, ["instance 1", "not JSON"]),
        ({"inputs": [tensor('{"items": []}', shape=[3])]}, ["shape", "[1]"]),
        ({"inputs": [tensor()]}, ["instances: found 0"]),
        ({"inputs": [{"name": "request"}]}, ["inputs.0.shape"]),
        ({"inputs": "request"}, ["inputs"]),
        ({"inputs": [tensor('{"items": []}')], "outputs": [{"name": "scores"}]}, ["scores"]),
        (7, ["V2 body"]),
    ],
)
@pytest.mark.parametrize("declared", ["application/json", "text/plain"])
def test_a_wrong_v2_body_is_refused(predictors: httpx.Client, body: Any, words: list[str], declared: str) -> None:
    answer = predictors.post(V2, content=json.dumps(body).encode(), headers={"content-type": declared})
    assert_refused(answer, *words)


@pytest.mark.parametrize("declared", ["application/json", "text/plain"])
def test_a_v2_body_that_is_not_json_is_refused(predictors: httpx.Client, declared: str) -> None:
    answer = predictors.post(V2, content=b'{"inputs": [', headers={"content-type": declared})
    assert_refused(answer, "JSON")


@pytest.mark.parametrize("length", ["12", "-1", "many", "100000"])
def test_a_binary_v2_body_that_cannot_be_read_is_refused(predictors: httpx.Client, length: str) -> None:
    headers = {"content-type": "application/octet-stream", "inference-header-content-length": length}
    assert_refused(predictors.post(V2, content=b'{"inputs": []}\x01\x02', headers=headers), "cannot be read")


def test_a_binary_v2_body_is_read(predictors: httpx.Client) -> None:
    element = b'{"items": [], "k": 2}'
    head = json.dumps(
        {"inputs": [{"name": "request", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": 25}}]}
    ).encode()
    content = head + len(element).to_bytes(4, "little") + element
    headers = {"content-type": "application/octet-stream", "inference-header-content-length": str(len(head))}
    answer = predictors.post(V2, content=content, headers=headers)
    assert len(json.loads(answer.json()["outputs"][0]["data"][0])["items"]) == 2


@pytest.mark.parametrize("session", [[], ["stranger"], ["stranger", "stranger", "other"]])
def test_without_a_known_item_the_most_popular_are_the_answer(
    predictors: httpx.Client, shop: Shop, session: list[str]
) -> None:
    ranking = ask(predictors, {"items": session, "k": 3})
    assert ranking["items"] == [{"item": item, "score": None, "fallback": True} for item in shop.ids[:3]]
    assert ranking["unknown"] == len(session)


def test_ten_thousand_items_are_ranked(predictors: httpx.Client, shop: Shop) -> None:
    ranking = ask(predictors, {"items": [shop.ids[number % N_ITEMS] for number in range(10_000)]})
    assert len(ranking["items"]) == 20


def test_category_candidates_and_exclusions_reach_the_ranking(predictors: httpx.Client, shop: Shop) -> None:
    boots = ask(predictors, {"items": [shop.ids[5]], "category": CATEGORIES[0], "k": 5})
    assert {shop.ids.index(one["item"]) % 3 for one in boots["items"]} == {0}
    wanted = shop.ids[10:14]
    few = ask(predictors, {"items": [shop.ids[5]], "candidates": wanted, "exclude": wanted[:1]})
    assert sorted(one["item"] for one in few["items"]) == sorted(wanted[1:])


def test_related_items_are_asked_by_one_item(predictors: httpx.Client, shop: Shop) -> None:
    related = ask(predictors, {"item": shop.ids[5], "k": N_ITEMS})
    assert shop.ids[5] not in [one["item"] for one in related["items"]]


def test_an_answer_says_who_gave_it(predictors: httpx.Client) -> None:
    body = {"instances": [{"items": []}, {"items": []}]}
    answer = predictors.post(V1, json=body, headers={"x-request-id": "mine"})
    for ranking in answer.json()["predictions"]:
        assert (ranking["model_version"], ranking["variant"], ranking["request_id"]) == ("7", "stable", "mine")
    assert (answer.headers["x-request-id"], answer.headers["x-endcap-version"]) == ("mine", "7")
    made = {ask(predictors, {"items": []})["request_id"] for _ in range(2)}
    assert len(made) == 2
    refused = predictors.post(V1, json={}, headers={"x-request-id": "mine"})
    assert refused.headers["x-request-id"] == "mine"


def test_a_v2_answer_carries_the_callers_id(predictors: httpx.Client) -> None:
    answer = predictors.post(V2, json={"id": "zwölf\n", "inputs": [tensor('{"items": []}')]})
    assert (answer.json()["id"], answer.json()["model_version"]) == ("zwölf\n", "7")


def test_health_and_metadata(predictors: httpx.Client) -> None:
    assert predictors.get("/v2/health/live").json() == {"live": True}
    assert predictors.get("/v2/health/ready").json() == {"ready": True}
    assert predictors.get("/v2/models/vsknn/ready").json()["ready"] is True
    metadata = predictors.get("/v2/models/vsknn").json()
    assert metadata["inputs"] == [{"name": "request", "datatype": "BYTES", "shape": [-1]}]
    assert predictors.get("/v1/models/vsknn").json()["ready"] is True
    unknown = predictors.post("/v1/models/nothing:predict", json={"instances": [{"items": []}]})
    assert unknown.status_code == 404


CLOUD_EVENT = {"ce-id": "1", "ce-source": "here", "ce-type": "question", "ce-specversion": "1.0"}


@pytest.mark.parametrize("headers", [CLOUD_EVENT, {"content-type": "application/cloudevents+json"}])
def test_the_answer_is_plain_json_whatever_the_headers(predictors: httpx.Client, headers: dict[str, str]) -> None:
    body = b'{"instances": [{"items": [], "k": 2}]}'
    assert len(predictors.post(V1, content=body, headers=headers).json()["predictions"][0]["items"]) == 2
    body = json.dumps({"inputs": [tensor('{"items": [], "k": 2}')]}).encode()
    answer = predictors.post(V2, content=body, headers=headers)
    assert len(json.loads(answer.json()["outputs"][0]["data"][0])["items"]) == 2


def test_there_is_nothing_to_explain(predictors: httpx.Client) -> None:
    assert predictors.post("/v1/models/vsknn:explain", json={"instances": [{"items": []}]}).status_code == 501


def test_requests_leave_no_line_in_the_log(predictors: httpx.Client, predictors_log: Path) -> None:
    before = predictors_log.read_text()
    ask(predictors, {"items": []})
    predictors.post(V1, content=b"{")
    assert predictors_log.read_text() == before
