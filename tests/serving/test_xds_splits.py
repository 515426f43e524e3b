"""Who is sent where, from what InferenceServices say of their variants."""

from __future__ import annotations

import json
from dataclasses import replace

from endcap.deploy.gateway_settings import GatewaySettings
from endcap.deploy.variants import LAYOUT, POPULARITY_ONLY, TLS, TLS_PORT, Address, Variant, Variants
from endcap.experiments.layout import Layout
from endcap.experiments.splits import CHALLENGERS
from endcap_serving.gateway.routes import Json, Split, Upstream, build_routes
from endcap_serving.gateway.splits import build_split, read_splits
from endcap_serving.names import FALLBACK
from tests.serving.api_server import inference_service, shadow_service, side_service

STABLE = Variant("1", Address("a.shop.svc", 80, "a.shop.svc"), True)
CANARY = Variant("2", Address("10.0.0.1", 8080, "b.example.com"), True)
A = Upstream("shoes/a.shop.svc:80", 80, "a.shop.svc", "a.shop.svc")
B = Upstream("shoes/10.0.0.1:8080/b.example.com", 8080, "10.0.0.1", "b.example.com")


def variants(stable: Variant | None, canary: Variant | None, share: float = 0.3) -> Variants:
    return Variants("shoes", "shop", "5a17", share, stable, canary)


def test_a_canary_gets_its_share_once_it_is_ready() -> None:
    assert build_split(variants(STABLE, CANARY), None) == Split(A, B, 0.3, "5a17")
    waiting = Variant("2", CANARY.address, ready=False)
    assert build_split(variants(STABLE, waiting), Split(A, B, 0.3, "5a17")) == Split(A, None, 0.0, "5a17")


def test_without_a_stable_address_a_ready_canary_answers_everyone() -> None:
    assert build_split(variants(None, CANARY), None) == Split(None, B, 1.0, "5a17")


def test_without_any_address_the_stable_version_goes_on() -> None:
    assert build_split(variants(None, None), Split(A, B, 0.3, "5a17")) == Split(A, None, 0.0, "5a17")
    assert build_split(variants(None, None), None) == Split(None, None, 0.0, "5a17")


def test_an_unreadable_service_keeps_its_split_and_stops_no_other() -> None:
    broken = inference_service("shoes")
    del broken["spec"]["predictor"]
    before = {"shoes": Split(A)}
    found = read_splits([broken, inference_service("hats")], before)
    assert list(found) == ["hats", "shoes"]
    assert found["shoes"] == Split(A)
    assert list(read_splits([broken], {})) == []


def test_predictors_that_speak_tls_need_a_gateway_with_certificates() -> None:
    plain, secure = inference_service("shoes"), inference_service("shoes")
    secure["spec"]["predictor"]["annotations"] = {TLS: "mtls"}
    before = read_splits([plain], {})
    assert read_splits([secure, inference_service("hats")], before)["shoes"] == before["shoes"]
    assert list(read_splits([secure], {})) == []
    host = "shoes-v1-predictor.shop.svc"
    expected = Upstream(f"shoes/{host}:{TLS_PORT}/tls", TLS_PORT, host, host, tls=True)
    assert read_splits([secure], before, tls=True)["shoes"].stable == expected


def test_a_shadow_gets_copies_while_it_is_ready_and_changes_nothing_else() -> None:
    shoes, hats = inference_service("shoes", 0.3), inference_service("hats")
    without = read_splits([shoes, hats], {})
    host = "shoes--shadow-predictor.shop.svc"
    shadow = Upstream(f"shoes/{host}:80", 80, host, host, kind="shadow")
    copied = read_splits([shadow_service("shoes", 0.25), shoes, hats], without)
    assert copied == without | {"shoes": replace(without["shoes"], shadow=shadow, shadow_share=0.25)}
    waiting, none = shadow_service("shoes", 0.25, ready=False), shadow_service("shoes", 0.0)
    spoilt = shadow_service("shoes", 0.25)
    del spoilt["spec"]["predictor"]
    for one in (waiting, none, spoilt, shadow_service("socks", 0.25)):
        assert read_splits([one, shoes, hats], copied) == without
    # What cannot be read keeps who answers, and not who is copied to.
    broken = inference_service("shoes", 0.3)
    del broken["spec"]["predictor"]
    assert read_splits([broken, hats], copied) == without


def test_popularity_answers_everyone_by_its_list_at_once_and_by_its_predictors_once_they_are_ready() -> None:
    terms = GatewaySettings(popular=("p1", "p2"))
    plain, refusing = inference_service("shoes", 0.3, terms=terms), inference_service("shoes", 0.3)
    for service in (plain, refusing):
        service["metadata"]["annotations"][POPULARITY_ONLY] = "2026-11-30T08:00:00+00:00"
    ready, waiting = (side_service("shoes", "baseline", 0.0, ready=is_ready) for is_ready in (True, False))

    def leads(*services: Json) -> tuple[bool, str]:
        split = read_splits(services, {})["shoes"]
        (name,) = [route["name"] for route in _list_routes(split)]
        assert name == "shoes"
        to = _list_routes(split)[0]["route"]
        return split.popularity_only, to.get("cluster") or "weighted"

    host = "shoes/shoes--baseline-predictor.shop.svc:80"
    assert leads(plain) == leads(plain, waiting) == (True, FALLBACK)
    assert leads(plain, ready) == (True, f"{host}+fallback")
    assert leads(refusing, ready) == (True, host)
    # Nothing else could answer, so the versions do.
    assert not read_splits([refusing], {})["shoes"].popularity_only
    # Where the service cannot be read, or the gateway starts without an API server, the switch stays.
    before = read_splits([plain, ready], {})
    broken = inference_service("shoes")
    del broken["spec"]["predictor"]
    kept = read_splits([broken], before)["shoes"]
    assert (kept.popularity_only, kept.baseline) == (True, before["shoes"].baseline)
    # Taken back, the predictors of the switch get nobody.
    plain["metadata"]["annotations"][POPULARITY_ONLY] = "false"
    after = read_splits([plain, ready], before)["shoes"]
    assert (after.popularity_only, after.weights.baseline, after.weights.canary) == (False, 0, 300_000)


def _list_routes(split: Split) -> list[Json]:
    """The recommender's own routes."""
    (resource,) = build_routes({"shoes": split})
    routes: list[Json] = resource["virtual_hosts"][0]["routes"]
    return [route for route in routes if route["name"] == "shoes"]


def test_challengers_have_the_places_of_the_layout_and_leave_them_to_stable_while_they_are_not_ready() -> None:
    layout = Layout.begin({"stable": 400_000, "challenger-1": 250_000, "challenger-2": 350_000})
    stable = inference_service("shoes")
    stable["metadata"]["annotations"][LAYOUT] = json.dumps(layout.to_json())

    def meets(*ready: bool) -> list[tuple[str, int]]:
        sides = [
            side_service("shoes", arm, 0.3, version=version, ready=is_ready)
            for arm, version, is_ready in zip(CHALLENGERS, "23", ready, strict=False)
        ]
        return [(arm, weight) for arm, weight, _ in read_splits([*sides, stable], {})["shoes"].segments]

    assert meets(True, True) == [("stable", 400_000), ("challenger-1", 250_000), ("challenger-2", 350_000)]
    assert meets(False, True) == [("stable", 650_000), ("challenger-2", 350_000)]
    assert meets(True, False) == [("stable", 400_000), ("challenger-1", 250_000), ("stable", 350_000)]
    assert meets() == [("stable", 1_000_000)]
    stable["metadata"]["annotations"][LAYOUT] = "[{}]"
    assert meets(True, True) == [("stable", 1_000_000)]
