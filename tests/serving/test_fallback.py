"""What shoppers get while predictors fail, through the real Envoy: another try where it is safe, the list, or a 503."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import httpx
import pyarrow as pa
import pytest
from pydantic import ValidationError

from endcap.deploy.bloom_filter import BloomFilter
from endcap.deploy.gateway_settings import apply_rules
from endcap.deploy.variants import settings_from_annotations, settings_to_annotations
from endcap.errors import RequestError
from endcap.experiments.ranking_token import RankingToken, TokenSigner
from endcap.features.vocabulary import Vocabulary
from endcap.pseudonyms import Pseudonymiser
from endcap.rules import Catalogue, Rulebook
from endcap.spec.rules import Rules
from endcap_serving import http_protocol
from endcap_serving.gateway import fallback
from endcap_serving.gateway.limits import Limits
from endcap_serving.gateway.routes import SHOPPER_HEADER, VARIANT_HEADER, GatewaySettings, Split, Upstream
from endcap_serving.kserve_bodies import make_v2_body_error, read_v2_body
from endcap_serving.local.envoy_process import EnvoyProcess
from endcap_serving.local.predictors import find_free_port
from endcap_serving.local.process import end_processes
from endcap_serving.names import RANKING_HEADER
from tests.serving.backends import Backend
from tests.serving.pod import wait_for

PREDICT, INFER = "/v1/models/shoes:predict", "/v2/models/shoes/infer"
# Whoever is well answers within this time on a busy machine too.
LISTED = GatewaySettings(timeout=2.0, k=2, popular=("p1", "p2", "p3", "p4"))
REFUSED = GatewaySettings(timeout=2.0)


@pytest.fixture(scope="module")
def backend() -> Iterator[Backend]:
    with Backend("stable-1") as server:
        yield server
        server.shutdown()


@pytest.fixture(scope="module")
def envoy(tmp_path_factory: pytest.TempPathFactory, backend: Backend) -> Iterator[EnvoyProcess]:
    lists = fallback.ListServer(lambda: {"shoes": LISTED})
    split = Split(backend.upstream, terms=LISTED)
    folder = tmp_path_factory.mktemp("gateway")
    running = EnvoyProcess(folder, "127.0.0.1", 0, "shoes", split, fallback_port=lists.port)
    yield running
    end_processes([running.process])
    lists.close()


@pytest.fixture
def client(envoy: EnvoyProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=envoy.address, timeout=30) as opened:
        yield opened


@pytest.fixture
def fresh(envoy: EnvoyProcess, backend: Backend) -> Callable[[GatewaySettings], None]:
    """A predictor that Envoy has nothing against yet, under terms: each test has a cluster of its own."""
    backend.fail()

    def begin(terms: GatewaySettings) -> None:
        upstream = Upstream(f"stable-{time.monotonic_ns()}", backend.server_port)
        envoy.apply(Split(upstream, terms=terms))

    return begin


def ask(client: httpx.Client, **instance: object) -> httpx.Response:
    instance = instance if "item" in instance else {"items": [], **instance}
    return client.post(PREDICT, json={"instances": [instance]}, headers={SHOPPER_HEADER: "s1", "x-request-id": "r1"})


def items(answer: httpx.Response) -> list[str]:
    return [one["item"] for one in answer.json()["predictions"][0]["items"]]


FAILURES = {
    "breaks the connection": {"breaks": True},
    "hangs": {"delay": 60.0},
    "has too much to do": {"status": 503, "retry_after": "1"},
    "is not ready": {"status": 503},
}


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
def test_a_predictor_that_does_not_answer_is_replaced_by_the_list(
    client: httpx.Client, backend: Backend, fresh: Callable[[GatewaySettings], None], failure: dict[str, object]
) -> None:
    fresh(LISTED)
    assert ask(client).headers[VARIANT_HEADER] == "stable"
    backend.fail(**failure)  # type: ignore[arg-type]
    begun = time.monotonic()
    answer = ask(client)
    assert time.monotonic() - begun < LISTED.timeout + 20
    assert (answer.status_code, answer.headers[VARIANT_HEADER]) == (200, "fallback")
    assert len(backend.seen) == 1, "there is no other predictor: it is not asked again"
    assert answer.headers["x-endcap-version"] == "fallback"
    (ranking,) = answer.json()["predictions"]
    assert (ranking["variant"], ranking["model_version"]) == ("fallback", "fallback")
    assert (ranking["request_id"], ranking["ranking_id"]) == ("r1", answer.headers["x-endcap-ranking-id"])
    assert ranking["items"] == [{"item": item, "score": None, "fallback": True} for item in ("p1", "p2")]
    assert ranking["fallback"] == {"reason": "no-predictor", "items": 2}


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
def test_without_a_list_a_failed_predictor_is_a_clear_error(
    client: httpx.Client, backend: Backend, fresh: Callable[[GatewaySettings], None], failure: dict[str, object]
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


@pytest.mark.slow
def test_the_list_replaces_a_predictor_until_it_is_back(envoy: EnvoyProcess, client: httpx.Client) -> None:
    port = find_free_port()
    envoy.apply(Split(Upstream("gone", port), terms=LISTED))
    assert {ask(client).headers[VARIANT_HEADER] for _ in range(20)} == {"fallback"}
    with Backend("back", port=port) as back:
        deadline = time.monotonic() + 60
        while ask(client).headers[VARIANT_HEADER] != "stable":
            assert time.monotonic() < deadline
            time.sleep(0.2)
        assert ask(client).json()["by"] == "back"
        back.shutdown()


def test_a_predictors_own_error_is_the_answer(
    client: httpx.Client, backend: Backend, fresh: Callable[[GatewaySettings], None]
) -> None:
    fresh(LISTED)
    backend.fail(status=500)
    answers = [ask(client) for _ in range(10)]
    assert {(answer.status_code, answer.headers[VARIANT_HEADER]) for answer in answers} == {(500, "stable")}
    assert len(backend.seen) == 10


def test_overload_does_not_eject_a_predictor_but_other_failures_do(
    client: httpx.Client, backend: Backend, fresh: Callable[[GatewaySettings], None]
) -> None:
    for retry_after, asked in (("1", 20), ("", 3)):
        fresh(LISTED)
        backend.fail(status=503, retry_after=retry_after)
        assert {ask(client).headers[VARIANT_HEADER] for _ in range(20)} == {"fallback"}
        assert len(backend.seen) == asked
    backend.fail()
    assert ask(client).headers[VARIANT_HEADER] == "fallback", "it is passed over for some seconds"


def test_where_no_variant_is_ready_there_is_the_list_or_a_503(envoy: EnvoyProcess, client: httpx.Client) -> None:
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


def test_the_list_honours_what_it_can(envoy: EnvoyProcess, client: httpx.Client) -> None:
    envoy.apply(Split(None, terms=LISTED))
    assert items(ask(client, k=3, exclude=["p1"])) == ["p2", "p3", "p4"]
    assert items(ask(client, item="p1")) == ["p2", "p3"]
    assert items(ask(client, k=9, candidates=["new", "p3", "p2", "p3"])) == ["p2", "p3", "new"]
    assert items(ask(client, category="boots")) == items(ask(client, filter={"brand": "x"})) == []
    assert ask(client, surface="home").json()["predictions"][0]["surface"] == "home"
    two = client.post(f"/shoes{PREDICT}", json={"instances": [{"items": []}, {"customer": "c"}]}).json()["predictions"]
    assert [one["ranking_id"].rpartition(".")[2] for one in two] == ["0", "1"]
    texts = [json.dumps({"items": [], "k": 1}), json.dumps({"items": [], "k": 1, "exclude": ["p1"]})]
    tensor = {"name": "request", "shape": [2], "datatype": "BYTES", "data": texts}
    (output,) = client.post(INFER, json={"inputs": [tensor]}).json()["outputs"]
    assert (output["name"], output["shape"], output["datatype"]) == ("ranking", [2], "BYTES")
    assert [json.loads(text)["items"][0]["item"] for text in output["data"]] == ["p1", "p2"]


ATTRIBUTES = pa.table({"item": [f"i{at}" for at in range(300)], "season": ["summer", "winter", None] * 100})
RULES = Rules.model_validate(
    {
        "attributes": [
            {"name": "no-winter", "attribute": "season", "never": ["winter"], "surfaces": ["home"]},
            {"name": "summer-only", "attribute": "season", "only": ["summer"], "surfaces": ["beach"]},
        ],
    }
)


def test_the_list_leaves_out_what_rules_forbid_on_a_surface() -> None:
    """As the rulebook says of each item and surface, except that the list may leave out a few more."""
    vocabulary = Vocabulary([f"i{at}" for at in range(300)])
    book = Rulebook(vocabulary, ATTRIBUTES, Catalogue(RULES, ATTRIBUTES, frozenset(["i0", "gone", "i7"])))
    made = apply_rules(GatewaySettings(k=1000), vocabulary.ids, book)
    said = settings_to_annotations(made)
    assert len(json.dumps(said)) < 160 << 10
    assert settings_from_annotations(said) == made
    assert GatewaySettings.from_json(json.loads(json.dumps(made.to_json()))) == made
    candidates = [*vocabulary.ids, "gone", "new"]
    for surface in (None, "home", "beach", "another"):
        about = {} if surface is None else {"surface": surface}
        for more in ({}, {"candidates": candidates}):
            status, _, body = answer_to({"items": [], **about, **more}, made)
            assert status == 200
            shown = [one["item"] for one in json.loads(body)["predictions"][0]["items"]]
            assert [item for item in shown if book.find_rule(item, surface) is not None] == [], surface
            right = [item for item in candidates if book.find_rule(item, surface) is None]
            assert len(shown) > (0.9 * len(right) if more and surface != "beach" else 90), surface


def answer_to(instance: dict[str, object], terms: GatewaySettings) -> tuple[int, dict[str, str], bytes]:
    return fallback.answer_from_list(PREDICT, {}, json.dumps({"instances": [instance]}).encode(), {"shoes": terms})


def test_a_small_filter_misses_no_forbidden_item() -> None:
    items = [f"item-{number}" for number in range(20_000)]
    for most in (0, 100, 10_000, 48 << 10):
        forbidden = BloomFilter.of(items, most)
        assert all(map(forbidden.holds, items))
        others = sum(forbidden.holds(f"other-{number}") for number in range(10_000))
        assert others < 200 or most < 20_000
    assert not BloomFilter.of([], 100).holds("a")


def test_settings_of_the_first_release_are_read_and_damaged_ones_have_no_list() -> None:
    old = {"endcap.dev/timeout": "2"}
    key = next(name for name in settings_to_annotations(LISTED) if name.endswith("popular"))
    read = settings_from_annotations({**old, key: '{"k":2,"items":["a","b"]}'})
    assert (read.popular, read.on("home"), read.admits("home", ["x"])) == (("a", "b"), ("a", "b"), ["x"])
    for never in ('[["",{"bits":"\\u0000","hashes":1}]]', '[["",{"bits":"00","hashes":0}]]', "[1]", '{"a":1}', "5"):
        assert not settings_from_annotations({key: '{"k":2,"items":["a"],"never":' + never + "}"}).offers_list
    assert GatewaySettings.from_json({"timeout": 2.0, "k": 3, "popular": ["a"]}) == GatewaySettings(2.0, 3, ("a",))


V2_CHANGES: list[dict[str, object]] = [
    *({"id": value} for value in (None, "", "i", 5, {"a": 1}, ["i"], True)),
    *({"parameters": value} for value in (None, {}, {"a": {"b": 1}}, {"a": None}, 5, {"a": 1.5})),
    *({"outputs": value} for value in (None, [], [{}], [{"name": "ranking"}], [{"name": 1}], {}, "ranking")),
    *({"inputs": value} for value in (None, [], {}, [1], [{}], "x")),
]
TENSOR: dict[str, object] = {"name": "request", "shape": [1], "datatype": "BYTES", "data": ['{"items":[]}']}
TENSOR_CHANGES: list[dict[str, object]] = [
    *({"name": value} for value in ("requests", None, 5)),
    *({"shape": value} for value in ([1, 1], ["1"], [2], [], [1.5], "1", [True])),
    *({"datatype": value} for value in ("FP32", None, 5)),
    *({"data": value} for value in ([], ["{"], [{}], [[]], "{}", None, ['{"items":[]}'] * 2, [5], ["[]"], ['{"a":1}'])),
    *({"parameters": value} for value in ({"binary_data_size": 5}, {"a": []}, 5)),
]


def test_a_v2_body_is_read_as_kserve_reads_it() -> None:
    """Every pair of changes: the quick class takes what KServe's own takes, and says the same of the rest."""
    from kserve.protocol.rest.v2_datamodels import InferenceRequest as KServeRequest

    def read_by_kserve(body: object) -> KServeRequest:
        try:
            return KServeRequest.model_validate(body)
        except ValidationError as error:
            raise make_v2_body_error(error.errors(include_url=False)) from None

    changed = [{**TENSOR, **one} for one in [{}, *TENSOR_CHANGES]]
    bodies = [{"inputs": [tensor], **change} for tensor in changed for change in [{}, *V2_CHANGES]]
    taken = 0
    for body in bodies:
        seen: list[object] = []
        for read in (read_by_kserve, read_v2_body):
            try:
                seen.append(read(body).model_dump())
            except RequestError as error:
                seen.append(error.to_json())
        assert seen[0] == seen[1], body
        status, headers, _ = fallback.answer_from_list(INFER, {}, json.dumps(body).encode(), {"shoes": LISTED})
        assert headers[VARIANT_HEADER] == "fallback"
        assert status == 200 or "code" in seen[0] or status == 400, body
        assert status == 400 or "code" not in seen[0], body
        taken += status == 200
    assert taken > 20


def test_no_answer_of_the_list_server_names_the_stable_variant(
    envoy: EnvoyProcess, client: httpx.Client, refusing_port: int
) -> None:
    envoy.apply(Split(Upstream("away", refusing_port), terms=LISTED))
    nested = {"id": {"a": 1}, "inputs": [TENSOR]}
    for path, body, status, code in (
        (INFER, nested, 400, "predictor.v2-body-invalid"),
        (f"/shoes{INFER}", nested, 400, "predictor.v2-body-invalid"),
        (PREDICT, {"instances": [{}]}, 400, "request.not-one-session"),
        (f"/shoes{PREDICT}", {"instances": []}, 400, "predictor.instances-count"),
        (PREDICT, {"instances": [{"items": []}], "k": 1}, 400, "predictor.body-key-unknown"),
        (INFER, {"id": "mine", "inputs": [TENSOR], "parameters": {"binary_data_output": True}}, 503, None),
        ("/v2/models/shoes", {}, 503, "gateway.no-predictor"),
    ):
        answer = client.post(path, json=body)
        assert (answer.status_code, answer.headers[VARIANT_HEADER]) == (status, "fallback"), path
        assert code is None or answer.json()["code"] == code, path
    answer = client.post(INFER, json={"id": "mine", "inputs": [TENSOR]}).json()
    assert (answer["id"], answer["model_name"], answer["model_version"]) == ("mine", "shoes", "fallback")


@pytest.mark.parametrize(
    ("body", "code", "fields"),
    [
        (b"{", "predictor.body-not-json", {}),
        (b"[]", "predictor.body-not-object", {}),
        (b'{"instances": {}}', "predictor.instances-not-list", {"at": "instances"}),
        (b'{"instances": []}', "predictor.instances-count", {"found": 0, "least": 1, "most": 1024}),
        (b'{"instances": [1]}', "request.wrong-type", {"instance": 0, "at": "request"}),
        (b'{"instances": [{"items": [], "k": 0}]}', "request.out-of-range", {"instance": 0, "at": "k", "least": 1}),
        (b'{"instances": [{"item": "a", "candidates": "p1"}]}', "request.wrong-type", {"at": "candidates"}),
        (b'{"instances": [{"items": [], "exclude": [1]}]}', "request.wrong-type", {"instance": 0, "at": "exclude.0"}),
        (b"[" * 100_000, "predictor.body-not-json", {}),
    ],
)
def test_the_list_server_refuses_wrong_requests_too(body: bytes, code: str, fields: dict[str, object]) -> None:
    status, _, answer = fallback.answer_from_list(PREDICT, {}, body, {"shoes": LISTED})
    told = json.loads(answer)
    assert (status, told["code"]) == (400, code)
    assert fields.items() <= told.get("fields", {}).items()
    assert told["error"]


def test_the_list_server_bounds_the_time_and_size_of_a_body(monkeypatch: pytest.MonkeyPatch) -> None:
    bounds = http_protocol.BoundedProtocol.bounds
    monkeypatch.setattr(http_protocol.BoundedProtocol, "bounds", replace(bounds, seconds=0.3))
    monkeypatch.setattr(fallback, "_LIMITS", Limits(body=1000, request_timeout=0.3))
    lists = fallback.ListServer(lambda: {"shoes": LISTED})
    head = f"POST {PREDICT} HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n".encode()

    def heard(sent: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", lists.port), timeout=5) as connection:
            connection.sendall(sent)
            return b"".join(iter(lambda: connection.recv(4096), b""))

    try:
        wait_for(lambda: answers(lists.port), "the list server listens")
        assert heard(head % 2) == b"", "a head that never ends"
        late, large = heard(head % 10 + b"\r\n{"), heard(head % 2000 + b"\r\n" + b"x" * 2000)
        assert (late.split()[1], large.split()[1]) == (b"408", b"413")
        assert b"gateway.request-late" in late
        assert b"gateway.body-too-large" in large
    finally:
        lists.close()


def answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/").status_code == 503
    except httpx.TransportError:
        return False


def test_a_lists_ranking_ids_name_the_shopper_as_the_intake_does() -> None:
    maker, body = Pseudonymiser(b"the key of this test, no secret"), json.dumps({"instances": [{"items": []}]}).encode()
    headers = {SHOPPER_HEADER: "shop-of-anna"}
    _, answered, _ = fallback.answer_from_list(PREDICT, headers, body, {"shoes": LISTED}, pseudonymiser=maker)
    signer = TokenSigner.from_environment("shoes")
    token = signer.read(answered[RANKING_HEADER])
    assert isinstance(token, RankingToken)
    assert signer.is_of(token, maker.pseudonymise("shop-of-anna"))
    assert not signer.is_of(token, "shop-of-anna")
