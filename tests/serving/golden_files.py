"""The configurations that Envoy is given, as files in tests/serving/golden to read and compare.

`make compile` writes them (`tests.generate`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from endcap.experiments.layout import Layout
from endcap_serving.gateway import bootstrap, routes
from endcap_serving.gateway.clusters import Json
from endcap_serving.gateway.envoy_tracing import EnvoyTracing
from endcap_serving.gateway.routes import GatewaySettings, Split, Upstream

GOLDEN = Path(__file__).with_name("golden")
FOLDER = Path("/run/endcap")
"""Of the gateway's files on a laptop."""
STABLE, CANARY = Upstream("stable-version-1-1", 9001), Upstream("canary-version-2-2", 9002)
CHALLENGER = Upstream("challenger-1-version-2-5", 9005)
OTHER_CHALLENGER = Upstream("challenger-2-version-3-6", 9006)
BASELINE = Upstream("baseline-version-popularity-4", 9004)
SHADOW = Upstream("shadow-version-3-3", 9003, kind="shadow")
PODS = Upstream(
    "shoes/shoes-v1-predictor.shop.svc:8080", 8080, "shoes-v1-predictor.shop.svc", "shoes-v1-predictor.shop.svc"
)
TAG = Upstream(
    "shoes/latest-shoes-predictor.shop.svc:80", 80, "latest-shoes-predictor.shop.svc", "latest-shoes-predictor.shop.svc"
)
SHADOW_TAG = Upstream(
    "shoes/latest-shoes--shadow-predictor.shop.svc:80",
    80,
    "latest-shoes--shadow-predictor.shop.svc",
    "latest-shoes--shadow-predictor.shop.svc",
    kind="shadow",
)
INTAKE = Upstream("intake/endcap-intake-pods.endcap.svc:8080", 8080, "endcap-intake-pods.endcap.svc", kind="intake")
LISTED = GatewaySettings(timeout=2.0, k=20, popular=("p1", "p2"))
REFUSED = GatewaySettings(timeout=0.8)


def make_ab_split(*challengers: Upstream | None) -> Split:
    """An A/B test of three versions whose layout has changed, so that an arm has two segments."""
    layout = Layout.begin({"stable": 400_000, "challenger-1": 300_000, "challenger-2": 300_000})
    layout = layout.change({"stable": 300_000, "challenger-1": 250_000, "challenger-2": 450_000})
    return Split(STABLE, salt="5a17", terms=LISTED, challengers=challengers, layout=layout)


def build_resources(splits: Mapping[str, Split], intake: Upstream | None = None) -> Json:
    """Clusters and routes."""
    named = [*routes.list_upstreams(splits.values()), *([intake] if intake else [])]
    return {"clusters": routes.build_clusters(named), "routes": routes.build_routes(splits, intake)}


def build_configurations() -> dict[str, Json]:
    """Every configuration, by the name of its file."""
    return {
        "bootstrap-on-files": bootstrap.build_file_bootstrap(FOLDER, "127.0.0.1", 8080, fallback_port=9100),
        "bootstrap-on-xds": bootstrap.build_xds_bootstrap(18000, "0.0.0.0", 8080, "/tmp/endcap/admin.sock", 9902),
        "bootstrap-on-xds-traced": bootstrap.build_xds_bootstrap(
            18000,
            "0.0.0.0",
            8080,
            "/tmp/endcap/admin.sock",
            shoppers="none",
            tracing=EnvoyTracing("http://collector.example.com:4318/v1/traces", sampled=10.0),
        ),
        "stable": build_resources({"shoes": Split(STABLE, terms=REFUSED)}),
        "stable-and-list": build_resources({"shoes": Split(STABLE, terms=LISTED)}),
        "canary": build_resources({"shoes": Split(STABLE, CANARY, 0.1, "5a17", terms=REFUSED)}),
        "canary-and-list": build_resources({"shoes": Split(STABLE, CANARY, 0.1, "5a17", terms=LISTED)}),
        "canary-and-shadow": build_resources({"shoes": Split(STABLE, CANARY, 0.1, "5a17", SHADOW, 0.25, LISTED)}),
        "canary-and-baseline": build_resources(
            {"shoes": Split(STABLE, CANARY, 0.1, "5a17", terms=LISTED, baseline=BASELINE, baseline_share=0.02)}
        ),
        "ab": build_resources({"shoes": make_ab_split(CHALLENGER, OTHER_CHALLENGER)}),
        "ab-without-a-challenger": build_resources({"shoes": make_ab_split(CHALLENGER, None)}),
        "popularity-only": build_resources(
            {"shoes": Split(STABLE, CANARY, 0.1, "5a17", terms=LISTED, baseline=BASELINE, popularity_only=True)}
        ),
        "nobody": build_resources({"shoes": Split(None, terms=REFUSED)}),
        "nobody-and-list": build_resources({"shoes": Split(None, terms=LISTED)}),
        "cluster-of-two": build_resources(
            {
                "hats": Split(None, TAG, 1.0, "5a17", terms=REFUSED),
                "shoes": Split(PODS, TAG, 0.3, "07e5", terms=LISTED),
            },
            INTAKE,
        ),
        "cluster-with-shadow": build_resources(
            {"shoes": Split(TAG, salt="07e5", shadow=SHADOW_TAG, shadow_share=0.1, terms=LISTED)}
        ),
        "longest-name": build_resources({"a" * 40: Split(STABLE), "b": Split(STABLE)}),
    }


def format_configuration(configuration: Json) -> str:
    return json.dumps(configuration, indent=1, ensure_ascii=False) + "\n"
