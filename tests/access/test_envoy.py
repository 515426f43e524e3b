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

from endcap.experiments.splits import TrafficSplit, weigh_share
from endcap_serving.gateway.access.access import LOCAL_HOSTS, Access
from endcap_serving.gateway.access.policy import EVERYTHING
from endcap_serving.gateway.routes import Split, Upstream
from endcap_serving.local.envoy_process import EnvoyProcess
from endcap_serving.local.process import end_processes
from tests.access.credentials import AUDIENCE, ISSUER, Signer, make_client, make_policy
from tests.serving.backends import Backend

PREDICT = "/v1/models/shoes:predict"
EVENTS = "/v1/events"
SIGNER = Signer()
SHOP = "https://shop.example.com"
KEYED = make_policy(
    clients=[
        make_client("web", "web-key", "web-next"),
        make_client("till", "till-key", scopes=("events",)),
        make_client("analyst", "analyst-key", scopes=("rank", "explain", "owned"), recommenders=["shoes"]),
        make_client("hatter", "hatter-key", recommenders=["hats"]),
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
        made = {name: stack.enter_context(Backend(name)) for name in ("stable", "shadow", "intake", "baseline")}
        yield made
        for backend in made.values():
            backend.shutdown()


@contextmanager
def run_gateway(
    folder: Path, backends: dict[str, Backend], access: Access
) -> Iterator[tuple[EnvoyProcess, httpx.Client]]:
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
    with run_gateway(tmp_path_factory.mktemp("keyed"), backends, Access(KEYED)) as (_, asker):
        yield asker


@pytest.fixture(scope="module")
def laptop(tmp_path_factory: pytest.TempPathFactory, backends: dict[str, Backend]) -> Iterator[httpx.Client]:
    access = Access(EVERYTHING, origins=(SHOP,), hosts=LOCAL_HOSTS)
    with run_gateway(tmp_path_factory.mktemp("laptop"), backends, access) as (_, asker):
        yield asker


def make_key_header(value: str) -> dict[str, str]:
    return {"x-endcap-key": value}


def make_token_header(signer: Signer = SIGNER, **claims: Any) -> dict[str, str]:
    usual = {"azp": "app", "realm_access": {"roles": ["rank", "offline_access"]}, "shops": ["shoes"]}
    return {"authorization": f"Bearer {signer.token(**{**usual, **claims})}"}


def read_outcome(answer: httpx.Response) -> tuple[int, str]:
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
        (PREDICT, make_key_header("web-key"), OK),
        (PREDICT, make_key_header("web-next"), OK),
        (PREDICT, make_key_header("web-ke"), INVALID),
        (PREDICT, make_key_header("x" * 5000), INVALID),
        (PREDICT, make_key_header("till-key"), SCOPE),
        (PREDICT, make_key_header("hatter-key"), OTHER),
        (PREDICT, {"authorization": "Basic d2ViOndlYg=="}, MISSING),
        (f"/shoes{PREDICT}", make_key_header("analyst-key"), OK),
        ("/v2/health/ready", {}, MISSING),
        (EVENTS, {}, MISSING),
        (EVENTS, make_key_header("web-key"), SCOPE),
        (EVENTS, make_key_header("till-key"), OK),
        (EVENTS, make_token_header(), SCOPE),
        (PREDICT, make_token_header(), OK),
        (PREDICT, make_token_header(shops=["hats"]), OTHER),
        (PREDICT, make_token_header(shops=None), OTHER),
        (PREDICT, make_token_header(realm_access=None), SCOPE),
        (PREDICT, make_token_header(azp=None), INVALID),
        (PREDICT, make_token_header(azp="a\r\nx-endcap-scope: owned"), INVALID),
        (PREDICT, make_token_header(exp=int(time.time()) - 120), INVALID),
        (PREDICT, make_token_header(exp=None), INVALID),
        (PREDICT, make_token_header(aud="another"), INVALID),
        (PREDICT, make_token_header(iss="https://login.example.com/realms/other"), INVALID),
        (PREDICT, make_token_header(alg="none"), INVALID),
        (PREDICT, make_token_header(alg="HS256"), INVALID),
        (PREDICT, make_token_header(Signer()), INVALID),
        (PREDICT, {"authorization": "Bearer nonsense"}, INVALID),
        (PREDICT, {**make_key_header("wrong"), **make_token_header()}, INVALID),
        ("/hats/v1/models/hats:predict", {}, MISSING),
        ("/hats/v1/models/hats:predict", make_key_header("web-key"), (404, "gateway.path-unknown")),
    ],
)
def test_who_may_do_what(keyed: httpx.Client, path: str, headers: dict[str, str], outcome: tuple[int, str]) -> None:
    answer = keyed.post(path, json={}, headers=headers)
    assert read_outcome(answer) == outcome
    assert ("www-authenticate" in answer.headers) == (outcome[0] == 401)
    assert "shoes" not in answer.text or outcome in (OK, OTHER), "whom one may ask is not told"


def test_the_baselines_shoppers_pass_the_same_checks(tmp_path: Path, backends: dict[str, Backend]) -> None:
    split = TrafficSplit("0" * 12, baseline=weigh_share(0.2))
    names = [f"shopper-{number}" for number in range(40)]
    own = next(name for name in names if split.has_in_baseline(name))
    other = next(name for name in names if not split.has_in_baseline(name))
    upstreams = (backends["stable"].upstream, backends["baseline"].upstream)
    for access in (Access(KEYED), Access(EVERYTHING, origins=(SHOP,), hosts=LOCAL_HOSTS)):
        envoy = EnvoyProcess(
            tmp_path / str(len(access.origins)),
            "127.0.0.1",
            0,
            "shoes",
            Split(upstreams[0], baseline=upstreams[1], baseline_share=0.2),
            access=access,
        )
        try:
            with httpx.Client(base_url=envoy.address, timeout=10) as asker:
                for shopper, variant in ((own, "baseline"), (other, "stable")):
                    told = {"x-endcap-shopper": shopper}
                    refused, headers = (
                        ({}, make_key_header("web-key"))
                        if access.policy.has_credentials
                        else (
                            {"origin": "https://elsewhere.example"},
                            {"origin": SHOP},
                        )
                    )
                    assert asker.post(PREDICT, json={}, headers={**told, **refused}).status_code in (401, 403)
                    if access.policy.has_credentials:
                        assert (
                            read_outcome(
                                asker.post(PREDICT, json={}, headers={**told, **make_key_header("hatter-key")})
                            )
                            == OTHER
                        )
                    for path in (PREDICT, f"/shoes{PREDICT}", f"{PREDICT}?verbose=1"):
                        answer = asker.post(path, json={}, headers={**told, **headers})
                        assert (answer.status_code, answer.headers["x-endcap-variant"]) == (200, variant)
        finally:
            end_processes([envoy.process])


def test_a_request_with_two_keys_is_refused(keyed: httpx.Client) -> None:
    answer = keyed.post(PREDICT, json={}, headers=[("x-endcap-key", "web-key"), ("x-endcap-key", "till-key")])
    assert read_outcome(answer) == INVALID


def test_the_gateway_replaces_a_clients_scopes_and_drops_its_credentials(
    keyed: httpx.Client, laptop: httpx.Client, backends: dict[str, Backend]
) -> None:
    forged = {"x-endcap-scope": "rank,events,explain,owned", "x-endcap-client": "root", "X-Endcap-Scope": "owned"}
    for asker, headers, path, who, scope, told in (
        (keyed, make_key_header("analyst-key"), PREDICT, "stable", "rank,explain,owned", "analyst"),
        (keyed, make_token_header(), PREDICT, "stable", "rank", "issuer-0/app"),
        (keyed, make_key_header("till-key"), EVENTS, "intake", "events", "till"),
        (
            laptop,
            {**make_key_header("whatever"), **make_token_header(), "origin": SHOP},
            PREDICT,
            "stable",
            "rank,events,explain,owned",
            None,
        ),
        (laptop, {}, EVENTS, "intake", "rank,events,explain,owned", None),
    ):
        for backend in backends.values():
            backend.seen.clear()
        assert asker.post(path, json={}, headers=[*headers.items(), *forged.items()]).status_code == 200
        seen = list(backends[who].seen)
        if who == "stable":
            deadline = time.monotonic() + 60
            while not backends["shadow"].seen and time.monotonic() < deadline:
                time.sleep(0.01)
            seen += backends["shadow"].seen
            assert len(seen) == 2, "the shadow is sent a copy"
        for one in seen:
            assert (one["x-endcap-scope"], one.get("x-endcap-client")) == (scope, told)
            assert not {"x-endcap-key", "authorization", "origin"} & set(one)


def test_a_key_is_taken_and_withdrawn_while_connections_stay(tmp_path: Path, backends: dict[str, Backend]) -> None:
    def clients(*keys: str) -> Access:
        return Access(make_policy(clients=[make_client("web", *keys), make_client("steady", "steady-key")]))

    with run_gateway(tmp_path / "gateway", backends, clients("old-key")) as (envoy, asker):

        def outcomes() -> list[tuple[int, str]]:
            return [
                read_outcome(httpx.post(envoy.address + PREDICT, json={}, headers=make_key_header(k)))
                for k in ("old-key", "new-key")
            ]

        def kept() -> list[str]:
            assert read_outcome(asker.post(PREDICT, json={}, headers=make_key_header("steady-key"))) == OK
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
        envoy.apply_access(Access(make_policy()))
        assert outcomes() == [SCOPE, SCOPE], "a policy without anybody opens nothing"
        told = [envoy._admin.get("/config_dump")]
        told += [file.read_text() for file in (tmp_path / "gateway").iterdir() if file.is_file()]
        assert not any("old-key" in text for text in told), "no key stands anywhere"


def test_an_issuers_keys_are_read_from_its_address(tmp_path: Path, backends: dict[str, Backend]) -> None:
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
        with run_gateway(tmp_path / "now", backends, Access(make_policy(issuers=[issuer]))) as (_, asker):
            assert read_outcome(asker.post(PREDICT, json={}, headers=make_token_header(sub="ann", scope="rank"))) == OK
            assert (
                read_outcome(asker.post(PREDICT, json={}, headers=make_token_header(Signer(), sub="ann", scope="rank")))
                == INVALID
            )
            assert (
                read_outcome(asker.post(PREDICT, json={}, headers=make_token_header(sub="ann", scope="openid")))
                == SCOPE
            )
            server.shutdown()
            server.server_close()
            assert (
                read_outcome(asker.post(PREDICT, json={}, headers=make_token_header(sub="bob", scope="rank"))) == OK
            ), "they are kept"
    finally:
        server.server_close()
    assert set(asked) == {"/certs?tenant=shop"}
    with run_gateway(tmp_path / "later", backends, Access(make_policy(issuers=[issuer]))) as (_, asker):
        assert read_outcome(asker.post(PREDICT, json={}, headers=make_token_header(sub="ann", scope="rank"))) == (
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
def test_a_web_page_cannot_send_requests_for_its_visitor(
    laptop: httpx.Client, path: str, headers: dict[str, str], outcome: tuple[int, str]
) -> None:
    answer = laptop.post(path, content=b"{}", headers={"content-type": "application/json", **headers})
    assert read_outcome(answer) == outcome
    allowed = answer.headers.get("access-control-allow-origin")
    assert allowed == (SHOP if headers.get("origin") == SHOP and outcome != HOST else None)


def test_a_preflight_request_is_answered_by_its_origin(laptop: httpx.Client, keyed: httpx.Client) -> None:
    asks = {"access-control-request-method": "POST", "access-control-request-headers": "content-type"}
    allowed = laptop.options(PREDICT, headers={"origin": SHOP, **asks})
    assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, SHOP)
    assert "x-endcap-key" in allowed.headers["access-control-allow-headers"]
    assert "access-control-allow-credentials" not in allowed.headers
    for asker, origin in ((laptop, "https://attacker.example"), (keyed, SHOP)):
        refused = asker.options(PREDICT, headers={"origin": origin, **asks})
        assert read_outcome(refused) == ORIGIN
        assert not any(name.startswith("access-control") for name in refused.headers)


def test_without_keys_nobody_may_send_events(tmp_path: Path, backends: dict[str, Backend]) -> None:
    backends["intake"].seen.clear()
    with run_gateway(tmp_path, backends, Access()) as (_, asker):
        assert read_outcome(asker.post(PREDICT, json={}, headers={"x-endcap-key": "any"})) == OK
        assert backends["stable"].seen[-1]["x-endcap-scope"] == "rank"
        assert read_outcome(asker.post(EVENTS, json={}, headers={"x-endcap-scope": "events"})) == SCOPE
    assert backends["intake"].seen == []
