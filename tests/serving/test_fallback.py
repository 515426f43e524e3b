"""What shoppers get while predictors fail, through the real Envoy: another try where it is safe, the list, or a 503."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator

import httpx
import pytest

from endcap_serving import fallback
from endcap_serving.envoy_process import Envoy
from endcap_serving.gateway import SHOPPER_HEADER, VARIANT_HEADER, Split, Terms, Upstream
from endcap_serving.predictors import free_port
from endcap_serving.process import end_all

from .backends import Backend

PREDICT, INFER = "/v1/models/shoes:predict", "/v2/models/shoes/infer"
LISTED = Terms(timeout=0.6, k=2, popular=("p1", "p2", "p3", "p4"))
REFUSED = Terms(timeout=0.6)


@pytest.fixture(scope="module")
def backend() -> Iterator[Backend]:
    with Backend("stable-1") as server:
        yield server
        server.shutdown()


@pytest.fixture(scope="module")
def envoy(tmp_path_factory: pytest.TempPathFactory, backend: Backend) -> Iterator[Envoy]:
    lists = fallback.Server(lambda: {"shoes": LISTED})
    split = Split(backend.upstream, terms=LISTED)
    folder = tmp_path_factory.mktemp("gateway")
    running = Envoy(folder, "127.0.0.1", 0, "shoes", split, fallback_port=lists.port)
    yield running
    end_all([running.process])
    lists.close()


@pytest.fixture
def client(envoy: Envoy) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=envoy.address, timeout=5) as opened:
        yield opened


@pytest.fixture
def fresh(envoy: Envoy, backend: Backend) -> Callable[[Terms], None]:
    """A predictor that Envoy has nothing against yet, under terms: each test has a cluster of its own."""
    backend.fail()

    def begin(terms: Terms) -> None:
        upstream = Upstream(f"stable-{time.monotonic_ns()}", backend.server_port)
        envoy.apply(Split(upstream, terms=terms))

    return begin


def ask(client: httpx.Client, **instance: object) -> httpx.Response:
    return client.post(PREDICT, json={"instances": [instance]}, headers={SHOPPER_HEADER: "s1", "x-request-id": "r1"})


def items(answer: httpx.Response) -> list[str]:
    return [one["item"] for one in answer.json()["predictions"][0]["items"]]


FAILURES = {
    "breaks the connection": {"breaks": True},
    "hangs": {"delay": 3.0},
    "has too much to do": {"status": 503, "retry_after": "1"},
    "is not ready": {"status": 503},
}


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
def test_a_predictor_that_does_not_answer_is_replaced_by_the_list(
    client: httpx.Client, backend: Backend, fresh: Callable[[Terms], None], failure: dict[str, object]
) -> None:
    fresh(LISTED)
    assert ask(client).headers[VARIANT_HEADER] == "stable"
    backend.fail(**failure)  # type: ignore[arg-type]
    begun = time.monotonic()
    answer = ask(client)
    assert time.monotonic() - begun < LISTED.timeout + 0.2
    assert (answer.status_code, answer.headers[VARIANT_HEADER]) == (200, "fallback")
    assert len(backend.seen) == 1, "there is no other predictor: it is not asked again"
    assert answer.headers["x-endcap-version"] == "fallback"
    (ranking,) = answer.json()["predictions"]
    assert (ranking["variant"], ranking["model_version"]) == ("fallback", "fallback")
    assert (ranking["request_id"], ranking["ranking_id"]) == ("r1", answer.headers["x-endcap-ranking-id"])
    assert ranking["items"] == [{"item": item, "score": None, "fallback": True} for item in ("p1", "p2")]
    assert ranking["fallback"] == {"reason": "no-predictor", "items": 2}


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
def test_where_the_spec_refuses_it_is_a_clear_503(
    client: httpx.Client, backend: Backend, fresh: Callable[[Terms], None], failure: dict[str, object]
) -> None:
    fresh(REFUSED)
    backend.fail(**failure)  # type: ignore[arg-type]
    answer = ask(client)
    assert answer.status_code == (504 if failure.get("delay") else 503)
    assert answer.headers[VARIANT_HEADER] == "stable"
    if answer.status_code == 503 and failure != {"status": 503}:
        assert answer.headers["retry-after"] == "1"
    if "status" not in failure:
        assert answer.json()["code"] == ("gateway.timeout" if failure.get("delay") else "gateway.unanswered")
        assert answer.json()["fields"] == {"recommender": "shoes"}


def test_one_that_is_gone_is_replaced_at_once_and_asked_again_when_it_is_back(
    envoy: Envoy, client: httpx.Client
) -> None:
    port = free_port()
    envoy.apply(Split(Upstream("gone", port), terms=LISTED))
    assert {ask(client).headers[VARIANT_HEADER] for _ in range(20)} == {"fallback"}
    with Backend("back", port=port) as back:
        deadline = time.monotonic() + 15
        while ask(client).headers[VARIANT_HEADER] != "stable":
            assert time.monotonic() < deadline
            time.sleep(0.2)
        assert ask(client).json()["by"] == "back"
        back.shutdown()


def test_an_error_of_its_own_is_the_answer(
    client: httpx.Client, backend: Backend, fresh: Callable[[Terms], None]
) -> None:
    fresh(LISTED)
    backend.fail(status=500)
    answers = [ask(client) for _ in range(10)]
    assert {(answer.status_code, answer.headers[VARIANT_HEADER]) for answer in answers} == {(500, "stable")}
    assert len(backend.seen) == 10


def test_too_much_to_do_is_not_held_against_a_predictor_and_other_refusals_are(
    client: httpx.Client, backend: Backend, fresh: Callable[[Terms], None]
) -> None:
    for retry_after, asked in (("1", 20), ("", 5)):
        fresh(LISTED)
        backend.fail(status=503, retry_after=retry_after)
        assert {ask(client).headers[VARIANT_HEADER] for _ in range(20)} == {"fallback"}
        assert len(backend.seen) == asked
    backend.fail()
    assert ask(client).headers[VARIANT_HEADER] == "fallback", "it is passed over for some seconds"


def test_where_no_variant_is_ready_there_is_the_list_or_a_503(envoy: Envoy, client: httpx.Client) -> None:
    envoy.apply(Split(None, terms=LISTED))
    assert items(ask(client)) == ["p1", "p2"]
    health = client.get("/shoes/v2/health/ready")
    assert (health.status_code, health.json()["code"]) == (503, "gateway.no-predictor")
    envoy.apply(Split(None, terms=REFUSED))
    answer = ask(client)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert answer.json() == {
        "error": "no predictor of shoes is ready",
        "code": "gateway.no-predictor",
        "fields": {"recommender": "shoes"},
    }


def test_the_list_honours_what_it_can(envoy: Envoy, client: httpx.Client) -> None:
    envoy.apply(Split(None, terms=LISTED))
    assert items(ask(client, k=3, exclude=["p1"])) == ["p2", "p3", "p4"]
    assert items(ask(client, item="p1")) == ["p2", "p3"]
    assert items(ask(client, k=9, candidates=["new", "p3", "p2", "p3"])) == ["p2", "p3", "new"]
    assert items(ask(client, category="boots")) == items(ask(client, filter={"brand": "x"})) == []
    assert ask(client, surface="home").json()["predictions"][0]["surface"] == "home"
    two = client.post(f"/shoes{PREDICT}", json={"instances": [{"items": []}, {"customer": "c"}]}).json()["predictions"]
    assert [one["ranking_id"].rpartition(".")[2] for one in two] == ["0", "1"]
    texts = [json.dumps({"k": 1}), json.dumps({"k": 1, "exclude": ["p1"]})]
    tensor = {"name": "request", "shape": [2], "datatype": "BYTES", "data": texts}
    (output,) = client.post(INFER, json={"inputs": [tensor]}).json()["outputs"]
    assert (output["name"], output["shape"], output["datatype"]) == ("ranking", [2], "BYTES")
    assert [json.loads(text)["items"][0]["item"] for text in output["data"]] == ["p1", "p2"]


@pytest.mark.parametrize(
    ("body", "code", "fields"),
    [
        (b"{", "predictor.body-not-json", {}),
        (b"[]", "predictor.body-not-object", {}),
        (b'{"instances": {}}', "predictor.instances-not-list", {"at": "instances"}),
        (b'{"instances": []}', "predictor.instances-count", {"found": 0, "least": 1, "most": 1024}),
        (b'{"instances": [1]}', "request.wrong-type", {"instance": 0, "at": "request"}),
        (b'{"instances": [{"k": 0}]}', "request.out-of-range", {"instance": 0, "at": "k", "found": 0, "least": 1}),
        (b'{"instances": [{}, {"candidates": "p1"}]}', "request.wrong-type", {"instance": 1, "at": "candidates"}),
        (b'{"instances": [{"exclude": [1]}]}', "request.wrong-type", {"instance": 0, "at": "exclude"}),
        (b"[" * 100_000, "predictor.body-not-json", {}),
    ],
)
def test_a_wrong_request_is_told_so_by_the_list_server_too(body: bytes, code: str, fields: dict[str, object]) -> None:
    status, _, answer = fallback.answer(PREDICT, {}, body, {"shoes": LISTED})
    told = json.loads(answer)
    assert (status, told["code"]) == (400, code)
    assert fields.items() <= told.get("fields", {}).items()
    assert told["error"]
