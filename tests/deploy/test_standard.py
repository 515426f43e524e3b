"""Standard mode: no predictor is taken away before another answers in its place."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from endcap.deploy import Deployment, knative
from endcap.deploy.standard import plan_standard
from endcap.deploy.transitions import is_pending
from endcap.deploy.variants import read_variants
from endcap.errors import UserError
from endcap.spec import Recommender
from tests.deploy.fake_kserve import NAMESPACE, Standard, recommender, state
from tests.refusals import refused

SHOES = recommender()
SECURE = recommender(tls={"clients": ["gateway.endcap.svc"]})
DESIRED = st.builds(
    state, st.sampled_from("123"), st.sampled_from([None, "4", "5"]), st.sampled_from([0.0, 0.1, 0.125, 1.0])
)


def run_to_end(cluster: Standard, desired: Deployment, spec: Recommender = SHOES) -> None:
    for _ in range(20):
        step = plan_standard(
            spec, desired, cluster.service, NAMESPACE, canaries=True, deployments=cluster.deployments()
        )
        if step.done and not is_pending(step, cluster.service):
            return
        answered = bool(cluster.ready)
        if is_pending(step, cluster.service):
            cluster.apply(step)
        else:
            cluster.start()
        cluster.settle()
        check_speech(cluster)
        assert not answered or cluster.names()[0] in cluster.ready, "the stable predictor answers all the time"
    raise AssertionError("never done")


def shares(cluster: Standard) -> dict[str, float]:
    assert cluster.service is not None
    variants = read_variants(cluster.service)
    assert variants is not None
    assert variants.stable is not None
    assert variants.stable.ready
    if variants.canary is None:
        return {variants.stable.version: 1.0}
    assert variants.canary.ready
    return {variants.stable.version: 1 - variants.share, variants.canary.version: variants.share}


def test_a_canary_grows_and_its_pods_stay_when_it_is_promoted() -> None:
    cluster = Standard()
    run_to_end(cluster, state("1"))
    run_to_end(cluster, state("1", "2", 0.125))
    assert shares(cluster) == {"1": 0.875, "2": 0.125}
    assert cluster.route == {"shoes-v1-predictor": 8750, "shoes-v2-predictor": 1250}
    assert cluster.service is not None
    template = cluster.service["spec"]["canary"][0]["predictor"]["annotations"]
    run_to_end(cluster, state("2"))
    assert cluster.names() == ["v2"]
    assert cluster.route == {"shoes-v2-predictor": 10_000}
    assert cluster.service["spec"]["predictor"]["annotations"] == template


def test_a_release_without_canaries_serves_one_version_and_says_so() -> None:
    step = plan_standard(SHOES, state("1"), None, NAMESPACE, canaries=False)
    assert "name" not in step.service["spec"]["predictor"]
    with refused(UserError, "deploy.canary-unsupported", stable="1", canary="2"):
        plan_standard(SHOES, state("1", "2"), None, NAMESPACE, canaries=False)


def check_speech(cluster: Standard) -> None:
    """All pods of a Service, also those from before a change, answer as the gateway asks them."""
    assert cluster.service is not None
    variants = read_variants(cluster.service)
    for variant, name in zip((variants.stable, variants.canary), cluster.names(), strict=False) if variants else ():
        for words in cluster.pods.get(name, ()) if variant else ():
            answers = {"plain"} if not words else {"tls", "plain"} if "all" in words else {"tls"}
            assert ("tls" if variant.address.tls else "plain") in answers


def test_a_predictor_that_is_to_speak_tls_does_both_until_all_of_its_pods_do() -> None:
    cluster = Standard()
    desired = state("1", "2", 0.1)
    run_to_end(cluster, desired)
    observed = []
    for spec in (SECURE, SHOES):
        while True:
            deployments = cluster.deployments()
            step = plan_standard(spec, desired, cluster.service, NAMESPACE, canaries=True, deployments=deployments)
            if step.done and not is_pending(step, cluster.service):
                break
            cluster.apply(step) if is_pending(step, cluster.service) else cluster.start()
            cluster.settle()
            assert cluster.service is not None
            predictor = cluster.service["spec"]["predictor"]
            observed.append((predictor["model"].get("args", [])[4:6], predictor["annotations"].get("endcap.dev/tls")))
            assert cluster.names() == ["v1", "v2"]
    both, only = ["--plain", "all"], ["--plain", "health"]
    assert list(dict.fromkeys((*args, tls) for args, tls in observed)) == [
        (*both, None), (*only, "mtls"), (*both, "mtls"), (None,)
    ]  # fmt: skip


def test_knative_mode_has_no_tls_of_ours() -> None:
    with refused(UserError, "deploy.tls-in-knative"):
        knative.plan_knative(SECURE, state("1"), None, NAMESPACE, room=True)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(DESIRED, st.sampled_from([SHOES, SECURE])), min_size=1, max_size=6))
def test_every_state_is_reached_from_every_other(states: list[tuple[Deployment, Recommender]]) -> None:
    cluster = Standard()
    for desired, spec in states:
        run_to_end(cluster, desired, spec)
        canary = desired.canary
        expected = {desired.stable.version: 1.0}
        if canary:
            expected = {desired.stable.version: 1 - canary.share, canary.version: canary.share}
        assert shares(cluster) == expected
        assert cluster.route.get(f"shoes-v{desired.stable.version}-predictor") == 10_000 - sum(
            weight for name, weight in cluster.route.items() if canary and f"v{canary.version}-" in name
        )
