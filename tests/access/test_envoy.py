"""The real Envoy with keys, tokens, origins, hosts and limits, in front of small servers that tell what they saw."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from endcap_serving.gateway.access.access import LOCAL_HOSTS, Access
from endcap_serving.gateway.access.policy import EVERYTHING
from endcap_serving.gateway.routes import Split, Upstream
from endcap_serving.local.envoy_process import EnvoyProcess
from endcap_serving.local.process import end_processes
from tests.access.given import AUDIENCE, ISSUER, Signer, client, policy
from tests.serving.backends import Backend

PREDICT = "/v1/models/shoes:predict"
EVENTS = "/v1/events"
SIGNER = Signer()
SHOP = "https://shop.example.com"
KEYED = policy(
    clients=[
        client("web", "web-key", "web-next"),
        client("till", "till-key", scopes=("events",)),
        client("analyst", "analyst-key", scopes=("rank", "explain", "owned"), recommenders=["shoes"]),
        client("hatter", "hatter-key", recommenders=["hats"]),
    ],
    issuers=[
        {
            "issuer": ISSUER,
            "audiences": [AUDIENCE],
            "jwks": {"keys": [SIGNER.public]},
            "claims": {"client": "azp", "scopes": ["realm_access", "roles"], "recommenders": "shops"},
        }
    ],
)


@pytest.fixture(scope="module")
def backends() -> Iterator[dict[str, Backend]]:
    with ExitStack() as stack:
        made = {name: stack.enter_context(Backend(name)) for name in ("stable", "shadow", "intake")}
        yield made
        for backend in made.values():
            backend.shutdown()


@contextmanager
def gateway(folder: Path, backends: dict[str, Backend], access: Access) -> Iterator[tuple[EnvoyProcess, httpx.Client]]:
    intake = Upstream("intake", backends["intake"].server_port, kind="intake")
    shadow = Upstream("shadow", backends["shadow"].server_port, kind="shadow")
    split = Split(backends["stable"].upstream, shadow=shadow, shadow_share=1.0)
    envoy = EnvoyProcess(folder, "127.0.0.1", 0, "shoes", split, intake=intake, access=access)
    try:
        with httpx.Client(base_url=envoy.address, timeout=10) as asker:
            yield envoy, asker
    finally:
        end_processes([envoy.process])


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory, backends: dict[str, Backend]) -> Iterator[httpx.Client]:
    with gateway(tmp_path_factory.mktemp("keyed"), backends, Access(KEYED)) as (_, asker):
        yield asker


@pytest.fixture(scope="module")
def laptop(tmp_path_factory: pytest.TempPathFactory, backends: dict[str, Backend]) -> Iterator[httpx.Client]:
    access = Access(EVERYTHING, origins=(SHOP,), hosts=LOCAL_HOSTS)
    with gateway(tmp_path_factory.mktemp("laptop"), backends, access) as (_, asker):
        yield asker


def key(value: str) -> dict[str, str]:
    return {"x-endcap-key": value}


def bearer(signer: Signer = SIGNER, **claims: Any) -> dict[str, str]:
    usual = {"azp": "app", "realm_access": {"roles": ["rank", "offline_access"]}, "shops": ["shoes"]}
    return {"authorization": f"Bearer {signer.token(**{**usual, **claims})}"}


def said(answer: httpx.Response) -> tuple[int, str]:
    """Status and code; every refusal is a document with the request's id in the header."""
    assert answer.headers["x-request-id"]
    return answer.status_code, answer.json().get("code", "")


OK = (200, "")
MISSING, INVALID = (401, "gateway.credential-missing"), (401, "gateway.credential-invalid")
SCOPE, OTHER = (403, "gateway.scope-missing"), (403, "gateway.recommender-forbidden")


@pytest.mark.parametrize(
    ("path", "headers", "outcome"),
    [
        (PREDICT, {}, MISSING),
        (PREDICT, key("web-key"), OK),
        (PREDICT, key("web-next"), OK),
        (PREDICT, key("web-ke"), INVALID),
        (PREDICT, key("x" * 5000), INVALID),
        (PREDICT, key("till-key"), SCOPE),
        (PREDICT, key("hatter-key"), OTHER),
        (PREDICT, {"authorization": "Basic d2ViOndlYg=="}, MISSING),
        (f"/shoes{PREDICT}", key("analyst-key"), OK),
        ("/v2/health/ready", {}, MISSING),
        (EVENTS, {}, MISSING),
        (EVENTS, key("web-key"), SCOPE),
        (EVENTS, key("till-key"), OK),
        (EVENTS, bearer(), SCOPE),
        (PREDICT, bearer(), OK),
        (PREDICT, bearer(shops=["hats"]), OTHER),
        (PREDICT, bearer(shops=None), OTHER),
        (PREDICT, bearer(realm_access=None), SCOPE),
        (PREDICT, bearer(azp=None), INVALID),
        (PREDICT, bearer(azp="a\r\nx-endcap-scope: owned"), INVALID),
        (PREDICT, bearer(exp=int(time.time()) - 120), INVALID),
        (PREDICT, bearer(exp=None), INVALID),
        (PREDICT, bearer(aud="another"), INVALID),
        (PREDICT, bearer(iss="https://login.example.com/realms/other"), INVALID),
        (PREDICT, bearer(alg="none"), INVALID),
        (PREDICT, bearer(alg="HS256"), INVALID),
        (PREDICT, bearer(Signer()), INVALID),
        (PREDICT, {"authorization": "Bearer nonsense"}, INVALID),
        (PREDICT, {**key("wrong"), **bearer()}, INVALID),
        ("/hats/v1/models/hats:predict", {}, MISSING),
        ("/hats/v1/models/hats:predict", key("web-key"), (404, "gateway.path-unknown")),
    ],
)
def test_who_may_do_what(keyed: httpx.Client, path: str, headers: dict[str, str], outcome: tuple[int, str]) -> None:
    answer = keyed.post(path, json={}, headers=headers)
    assert said(answer) == outcome
    assert ("www-authenticate" in answer.headers) == (outcome[0] == 401)
    assert "shoes" not in answer.text or outcome in (OK, OTHER), "whom one may ask is not told"


def test_two_keys_in_one_request_are_none(keyed: httpx.Client) -> None:
    answer = keyed.post(PREDICT, json={}, headers=[("x-endcap-key", "web-key"), ("x-endcap-key", "till-key")])
    assert said(answer) == INVALID


def test_only_the_gateway_says_what_a_caller_may_and_no_credential_goes_on(
    keyed: httpx.Client, laptop: httpx.Client, backends: dict[str, Backend]
) -> None:
    forged = {"x-endcap-scope": "rank,events,explain,owned", "x-endcap-client": "root", "X-Endcap-Scope": "owned"}
    for asker, headers, path, who, scope, told in (
        (keyed, key("analyst-key"), PREDICT, "stable", "rank,explain,owned", "analyst"),
        (keyed, bearer(), PREDICT, "stable", "rank", "issuer-0/app"),
        (keyed, key("till-key"), EVENTS, "intake", "events", "till"),
        (laptop, {**key("whatever"), **bearer(), "origin": SHOP}, PREDICT, "stable", "rank,events,explain,owned", None),
        (laptop, {}, EVENTS, "intake", "rank,events,explain,owned", None),
    ):
        for backend in backends.values():
            backend.seen.clear()
        assert asker.post(path, json={}, headers=[*headers.items(), *forged.items()]).status_code == 200
        seen = list(backends[who].seen)
        if who == "stable":
            deadline = time.monotonic() + 5
            while not backends["shadow"].seen and time.monotonic() < deadline:
                time.sleep(0.01)
            seen += backends["shadow"].seen
            assert len(seen) == 2, "the shadow is sent a copy"
        for one in seen:
            assert (one["x-endcap-scope"], one.get("x-endcap-client")) == (scope, told)
            assert not {"x-endcap-key", "authorization", "origin"} & set(one)


def test_a_key_is_taken_and_withdrawn_while_connections_stay(tmp_path: Path, backends: dict[str, Backend]) -> None:
    def clients(*keys: str) -> Access:
        return Access(policy(clients=[client("web", *keys), client("steady", "steady-key")]))

    with gateway(tmp_path / "gateway", backends, clients("old-key")) as (envoy, asker):

        def outcomes() -> list[tuple[int, str]]:
            return [said(httpx.post(envoy.address + PREDICT, json={}, headers=key(k))) for k in ("old-key", "new-key")]

        def kept() -> list[str]:
            assert said(asker.post(PREDICT, json={}, headers=key("steady-key"))) == OK
            return [repr(id(one)) for one in asker._transport._pool.connections]  # type: ignore[attr-defined]

        assert outcomes() == [OK, INVALID]
        held = kept()
        for access, expected in (
            (clients("old-key", "new-key"), [OK, OK]),
            (clients("new-key"), [INVALID, OK]),
            (clients(), [INVALID, INVALID]),
            (clients("old-key"), [OK, INVALID]),
        ):
            envoy.apply_access(access)
            assert outcomes() == expected
            assert kept() == held
        envoy.apply_access(Access(policy()))
        assert outcomes() == [SCOPE, SCOPE], "a policy without anybody opens nothing"
        told = [envoy._admin.get("/config_dump")]
        told += [file.read_text() for file in (tmp_path / "gateway").iterdir() if file.is_file()]
        assert not any("old-key" in text for text in told), "no key stands anywhere"


def test_keys_of_an_issuer_are_asked_for_at_its_address(tmp_path: Path, backends: dict[str, Backend]) -> None:
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            body = json.dumps({"keys": [SIGNER.public]}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    uri = f"http://localhost:{server.server_port}/certs?tenant=shop"
    issuer = {"issuer": ISSUER, "audiences": [AUDIENCE], "jwks": {"uri": uri}}
    try:
        with gateway(tmp_path / "now", backends, Access(policy(issuers=[issuer]))) as (_, asker):
            assert said(asker.post(PREDICT, json={}, headers=bearer(sub="ann", scope="rank"))) == OK
            assert said(asker.post(PREDICT, json={}, headers=bearer(Signer(), sub="ann", scope="rank"))) == INVALID
            assert said(asker.post(PREDICT, json={}, headers=bearer(sub="ann", scope="openid"))) == SCOPE
            server.shutdown()
            server.server_close()
            assert said(asker.post(PREDICT, json={}, headers=bearer(sub="bob", scope="rank"))) == OK, "they are kept"
    finally:
        server.server_close()
    assert set(asked) == {"/certs?tenant=shop"}
    with gateway(tmp_path / "later", backends, Access(policy(issuers=[issuer]))) as (_, asker):
        assert said(asker.post(PREDICT, json={}, headers=bearer(sub="ann", scope="rank"))) == (
            503,
            "gateway.issuer-unreachable",
        )


ORIGIN, HOST, TYPE = (
    (403, "gateway.origin-refused"),
    (403, "gateway.host-refused"),
    (415, "gateway.content-type-refused"),
)


@pytest.mark.parametrize(
    ("headers", "outcome"),
    [
        ({}, OK),
        ({"host": "localhost"}, OK),
        ({"host": "LOCALHOST:8080"}, OK),
        ({"host": "[::1]:8080"}, OK),
        ({"host": "attacker.example:8080"}, HOST),
        ({"host": "127.0.0.1.attacker.example"}, HOST),
        ({"host": "attacker.example", "origin": SHOP}, HOST),
        ({"origin": "https://attacker.example"}, ORIGIN),
        ({"origin": "null"}, ORIGIN),
        ({"origin": f"{SHOP}.attacker.example"}, ORIGIN),
        ({"origin": "http://localhost:8080"}, ORIGIN),
        ({"origin": SHOP}, OK),
        ({"origin": SHOP, "sec-fetch-site": "cross-site"}, OK),
        ({"sec-fetch-site": "cross-site"}, ORIGIN),
        ({"sec-fetch-site": "none"}, OK),
        ({"content-type": "text/plain"}, TYPE),
        ({"content-type": "application/x-www-form-urlencoded"}, TYPE),
        ({"content-type": "multipart/form-data; boundary=application/json"}, TYPE),
        ({"content-type": "text/plain;application/json"}, TYPE),
        ({"content-type": ""}, TYPE),
        ({"content-type": "Application/JSON; charset=utf-8"}, OK),
    ],
)
@pytest.mark.parametrize("path", [PREDICT, EVENTS, "/v2/models/shoes/infer"])
def test_a_page_cannot_ask_for_whoever_looks_at_it(
    laptop: httpx.Client, path: str, headers: dict[str, str], outcome: tuple[int, str]
) -> None:
    answer = laptop.post(path, content=b"{}", headers={"content-type": "application/json", **headers})
    assert said(answer) == outcome
    allowed = answer.headers.get("access-control-allow-origin")
    assert allowed == (SHOP if headers.get("origin") == SHOP and outcome != HOST else None)


def test_a_page_that_asks_first_is_answered_by_its_origin(laptop: httpx.Client, keyed: httpx.Client) -> None:
    asks = {"access-control-request-method": "POST", "access-control-request-headers": "content-type"}
    allowed = laptop.options(PREDICT, headers={"origin": SHOP, **asks})
    assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, SHOP)
    assert "x-endcap-key" in allowed.headers["access-control-allow-headers"]
    assert "access-control-allow-credentials" not in allowed.headers
    for asker, origin in ((laptop, "https://attacker.example"), (keyed, SHOP)):
        refused = asker.options(PREDICT, headers={"origin": origin, **asks})
        assert said(refused) == ORIGIN
        assert not any(name.startswith("access-control") for name in refused.headers)


def test_where_nobody_has_keys_events_are_nobodys(tmp_path: Path, backends: dict[str, Backend]) -> None:
    backends["intake"].seen.clear()
    with gateway(tmp_path, backends, Access()) as (_, asker):
        assert said(asker.post(PREDICT, json={}, headers={"x-endcap-key": "any"})) == OK
        assert backends["stable"].seen[-1]["x-endcap-scope"] == "rank"
        assert said(asker.post(EVENTS, json={}, headers={"x-endcap-scope": "events"})) == SCOPE
    assert backends["intake"].seen == []
