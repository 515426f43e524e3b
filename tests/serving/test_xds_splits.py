"""Who is sent where, from what InferenceServices say of their variants."""

from __future__ import annotations

from dataclasses import replace

from endcap.deploy.variants import TLS, TLS_PORT, Address, Variant, Variants
from endcap_serving.gateway.routes import Split, Upstream
from endcap_serving.gateway.splits import build_split, read_splits
from tests.serving.api_server import inference_service, shadow_service

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
