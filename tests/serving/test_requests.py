"""What a caller may send wrong: always a 400 that says what is wrong and where, never a 500."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from endcap.errors import RequestError
from endcap.ranking import Ranker
from endcap.registry.package import load_package
from tests.serving.conftest import CATEGORIES, N_ITEMS, Shop

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


def assert_refused(answer: httpx.Response, code: str, **fields: Any) -> None:
    told = answer.json()
    assert (answer.status_code, told["code"]) == (400, f"predictor.{code}"), answer.text
    assert fields.items() <= told.get("fields", {}).items()
    assert told["error"]


@pytest.fixture(scope="module")
def ranker(shop: Shop) -> Ranker:
    return load_package(shop.store.fetch(shop.packages["sequential-rules"])).ranker


@pytest.mark.parametrize(
    "instance",
    [
        {"items": "boot"},
        {"items": [1, 2]},
        {"itms": ["a"]},
        {},
        [],
        None,
        {"items": [], "k": 0},
        {"items": [], "k": 1_000_000},
        {"items": [], "k": 2.5},
        {"items": [], "category": "botts"},
        {"items": ["a"] * 10_001},
        {"events": [{"item": "a", "time": 12}]},
        {"items": [], "candidates": []},
    ],
    ids=lambda instance: str(instance)[:40],
)
def test_a_wrong_instance_is_refused_in_v1_and_v2_as_by_the_library(
    predictors: httpx.Client, ranker: Ranker, instance: Any
) -> None:
    with pytest.raises(RequestError) as refusal:
        ranker.parse(instance, 1)
    error, good = refusal.value, {"items": []}
    for answer in (
        predictors.post(V1, json={"instances": [good, instance]}),
        predictors.post(V2, json={"inputs": [tensor(json.dumps(good), json.dumps(instance))]}),
    ):
        told = {"error": str(error), "code": error.code, **({"fields": error.fields} if error.fields else {})}
        assert (answer.status_code, answer.json()) == (400, told)


@pytest.mark.parametrize(
    ("body", "code", "fields"),
    [
        (b"", "body-empty", {}),
        (b"items=a", "body-not-json", {}),
        (b'{"instances": [{"items": ["a"]}', "body-not-json", {}),
        (b'{"instances": [{"items": [], "k": NaN}]}', "body-not-json", {}),
        (b'{"instances": [{"items": ["\xff"]}]}', "body-not-json", {}),
        (b'{"instances": [{"items": ["\\ud800"]}]}', "body-not-json", {}),
        (b"[" * 100_000, "body-not-json", {}),
        (b'[{"items": []}]', "body-not-object", {"found": "a list"}),
        (b"7", "body-not-object", {"found": "a number"}),
        (b"{}", "instances-not-list", {"found": "nothing"}),
        (b'{"instances": {"items": []}}', "instances-not-list", {"found": "an object"}),
        (b'{"instances": []}', "instances-count", {"found": 0, "least": 1, "most": 1024}),
        (b'{"instances": [{"items": []}], "k": 3}', "body-key-unknown", {"at": "k"}),
    ],
)
@pytest.mark.parametrize("declared", ["application/json", "text/plain", "application/octet-stream", None])
def test_a_wrong_body_is_refused(
    predictors: httpx.Client, body: bytes, code: str, fields: dict[str, Any], declared: str | None
) -> None:
    headers = {} if declared is None else {"content-type": declared}
    assert_refused(predictors.post(V1, content=body, headers=headers), code, **fields)


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
    ("body", "code", "fields"),
    [
        ({}, "v2-body-invalid", {"at": "inputs"}),
        ({"inputs": []}, "tensor-invalid", {"tensors": []}),
        ({"inputs": [tensor("{}", name="sessions")]}, "tensor-invalid", {"tensors": ["sessions"]}),
        ({"inputs": [tensor("{}"), tensor("{}")]}, "tensor-invalid", {"tensors": ["request", "request"]}),
        ({"inputs": [tensor(1, datatype="INT64")]}, "tensor-invalid", {"datatype": "INT64"}),
        ({"inputs": [tensor(1)]}, "instance-not-text", {"instance": 0, "found": "a number"}),
        ({"inputs": [tensor("{", "{}")]}, "instance-not-json", {"instance": 0}),
        ({"inputs": [tensor('{"items": []}', "{")]}, "instance-not-json", {"instance": 1}),
        ({"inputs": [tensor('{"items": []}', shape=[3])]}, "tensor-invalid", {"shape": [3], "elements": 1}),
        ({"inputs": [tensor()]}, "instances-count", {"found": 0}),
        ({"inputs": [{"name": "request"}]}, "v2-body-invalid", {"at": "inputs.0.shape"}),
        ({"inputs": "request"}, "v2-body-invalid", {"at": "inputs"}),
        ({"inputs": [tensor('{"items": []}')], "outputs": [{"name": "scores"}]}, "input-invalid", {}),
        (7, "v2-body-invalid", {"at": ""}),
    ],
)
@pytest.mark.parametrize("declared", ["application/json", "text/plain"])
def test_a_wrong_v2_body_is_refused(
    predictors: httpx.Client, body: Any, code: str, fields: dict[str, Any], declared: str
) -> None:
    answer = predictors.post(V2, content=json.dumps(body).encode(), headers={"content-type": declared})
    assert_refused(answer, code, **fields)


@pytest.mark.parametrize("declared", ["application/json", "text/plain"])
def test_a_v2_body_that_is_not_json_is_refused(predictors: httpx.Client, declared: str) -> None:
    answer = predictors.post(V2, content=b'{"inputs": [', headers={"content-type": declared})
    assert_refused(answer, "body-not-json")


@pytest.mark.parametrize("length", ["12", "-1", "many", "100000"])
def test_a_binary_v2_body_that_cannot_be_read_is_refused(predictors: httpx.Client, length: str) -> None:
    headers = {"content-type": "application/octet-stream", "inference-header-content-length": length}
    assert_refused(predictors.post(V2, content=b'{"inputs": []}\x01\x02', headers=headers), "body-unreadable")


def test_a_binary_v2_body_is_read(predictors: httpx.Client) -> None:
    element = b'{"items": [], "k": 2}'
    head = json.dumps(
        {"inputs": [{"name": "request", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": 25}}]}
    ).encode()
    content = head + len(element).to_bytes(4, "little") + element
    headers = {"content-type": "application/octet-stream", "inference-header-content-length": str(len(head))}
    answer = predictors.post(V2, content=content, headers=headers)
    assert len(json.loads(answer.json()["outputs"][0]["data"][0])["items"]) == 2


@pytest.mark.parametrize(
    ("session", "reason"),
    [([], "no-history"), (["stranger"], "unknown-items"), (["stranger", "stranger", "other"], "unknown-items")],
)
def test_without_a_known_item_the_most_popular_are_the_answer(
    predictors: httpx.Client, shop: Shop, session: list[str], reason: str
) -> None:
    ranking = ask(predictors, {"items": session, "k": 3})
    assert ranking["fallback"] == {"reason": reason, "items": 3}
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
    assert (unknown.status_code, unknown.json()["code"]) == (404, "predictor.model-unknown")
    assert "vsknn" in unknown.json()["fields"]["served"]
    assert unknown.json()["fields"]["paths"][0] == "POST /v1/models/NAME:predict"
    nowhere = predictors.get("/v2/models/vsknn/nothing")
    assert (nowhere.status_code, nowhere.json()["code"]) == (404, "predictor.path-unknown")


CLOUD_EVENT = {"ce-id": "1", "ce-source": "here", "ce-type": "question", "ce-specversion": "1.0"}


@pytest.mark.parametrize("headers", [CLOUD_EVENT, {"content-type": "application/cloudevents+json"}])
def test_the_answer_is_plain_json_whatever_the_headers(predictors: httpx.Client, headers: dict[str, str]) -> None:
    body = b'{"instances": [{"items": [], "k": 2}]}'
    assert len(predictors.post(V1, content=body, headers=headers).json()["predictions"][0]["items"]) == 2
    body = json.dumps({"inputs": [tensor('{"items": [], "k": 2}')]}).encode()
    answer = predictors.post(V2, content=body, headers=headers)
    assert len(json.loads(answer.json()["outputs"][0]["data"][0])["items"]) == 2


def test_kserves_explain_is_not_offered(predictors: httpx.Client) -> None:
    answer = predictors.post("/v1/models/vsknn:explain", json={"instances": [{"items": []}]})
    assert (answer.status_code, answer.json()["code"]) == (501, "predictor.not-offered")


def test_requests_leave_no_line_in_the_log(predictors: httpx.Client, predictors_log: Path) -> None:
    before = predictors_log.read_text()
    ask(predictors, {"items": []})
    predictors.post(V1, content=b"{")
    assert predictors_log.read_text() == before
