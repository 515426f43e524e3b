"""The chart's dashboard of predictors."""

from __future__ import annotations

from tests.generate.grafana import AMBER, GREEN, RED, Dashboard, Panel, Query

_PLACE = 'namespace=~"$namespace"'
_MODEL = f'endcap_model_info{{model=~"$recommender", {_PLACE}}}'
_JOIN = f"* on (instance, job) group_left (model, version, variant) {_MODEL}"
_VERSION = "{{model}} {{version}} {{variant}}"
_NAMESPACE = ("namespace", 'label_values(up{endcap_component!=""}, namespace)')
_PERCENT = ((None, GREEN), (0.001, AMBER), (0.01, RED))


def _rate(metric: str, by: str = "model, version, variant", labels: str = "") -> str:
    """A predictors' counter a second, by what serves it."""
    return f"sum by ({by}) (rate({metric}{{{labels}}}[$__rate_interval]) {_JOIN})"


def _quantile(share: float, metric: str) -> str:
    return f"histogram_quantile({share}, {_rate(f'{metric}_bucket', 'model, version, variant, le')})"


def _share(part: str, whole: str, by: str = "model, version, variant", labels: str = "") -> str:
    return f"{_rate(part, by, labels)} / {_rate(whole, by)}"


SERVING = Dashboard(
    "serving",
    "Serving",
    "What predictors answer, how fast, and with what.",
    (
        (
            "Traffic",
            (
                Panel(
                    "Rankings", [Query(_rate("endcap_rankings_total"), _VERSION)], unit="reqps", width=12, stack=True
                ),
                Panel(
                    "Calls by status",
                    [Query(_rate("endcap_requests_total", "status"), "{{status}}")],
                    unit="reqps",
                    width=12,
                ),
                Panel(
                    "Failed calls",
                    [Query(_share("endcap_requests_total", "endcap_requests_total", labels='status="500"'), _VERSION)],
                    "Calls answered with 500, as a share of all.",
                    unit="percentunit",
                    steps=_PERCENT,
                ),
                Panel(
                    "Refused by overload",
                    [Query(_rate("endcap_rejected_total"), _VERSION)],
                    "Calls that would have waited longer than serving.max_wait.",
                    unit="reqps",
                ),
                Panel(
                    "Rankings by surface",
                    [Query(_rate("endcap_rankings_total", "surface"), "{{surface}}")],
                    unit="reqps",
                ),
            ),
        ),
        (
            "Time",
            (
                Panel(
                    "Calls, p50 and p99",
                    [
                        Query(_quantile(0.5, "endcap_request_seconds"), f"p50 {_VERSION}"),
                        Query(_quantile(0.99, "endcap_request_seconds"), f"p99 {_VERSION}"),
                    ],
                    unit="s",
                ),
                Panel(
                    "Waits for a turn, p99",
                    [Query(_quantile(0.99, "endcap_queue_seconds"), _VERSION)],
                    "Grows before calls are refused: add replicas.",
                    unit="s",
                ),
                Panel(
                    "Batches, p99",
                    [Query(_quantile(0.99, "endcap_batch_seconds"), _VERSION)],
                    "What the model computes for requests that came together.",
                    unit="s",
                ),
            ),
        ),
        (
            "What shoppers get",
            (
                Panel(
                    "Rankings with fallbacks",
                    [Query(_share("endcap_fallbacks_total", "endcap_rankings_total"), _VERSION)],
                    unit="percentunit",
                ),
                Panel(
                    "Fallbacks by reason",
                    [Query(_rate("endcap_fallbacks_total", "model, reason"), "{{model}} {{reason}}")],
                    unit="reqps",
                ),
                Panel(
                    "Empty rankings",
                    [Query(_share("endcap_empty_answers_total", "endcap_rankings_total"), _VERSION)],
                    unit="percentunit",
                ),
                Panel(
                    "Score of the first item, median",
                    [Query(_quantile(0.5, "endcap_top_score"), _VERSION)],
                    "A jump between retrainings means other inputs.",
                ),
                Panel(
                    "Without the online store",
                    [Query(_rate("endcap_degraded_total", "model"), "{{model}}")],
                    unit="reqps",
                ),
                Panel(
                    "Questions to the online store, p99",
                    [
                        Query(
                            f"histogram_quantile(0.99, {_rate('endcap_online_store_seconds_bucket', 'outcome, le')})",
                            "{{outcome}}",
                        )
                    ],
                    unit="s",
                ),
                Panel(
                    "Request samples by outcome",
                    [Query(_rate("endcap_request_samples_total", "model, outcome"), "{{model}} {{outcome}}")],
                    "Nothing, where no recommender asks for samples.",
                    unit="reqps",
                ),
            ),
        ),
        (
            "What runs",
            (
                Panel(
                    "Versions",
                    [Query(f"count by (namespace, model, version, variant) ({_MODEL})")],
                    kind="table",
                    width=12,
                    columns={
                        "namespace": "namespace",
                        "model": "recommender",
                        "version": "version",
                        "variant": "variant",
                    },
                    value="pods",
                ),
                Panel(
                    "Age of the catalogue",
                    [Query(f"max by (model, version) (endcap_catalogue_age_seconds {_JOIN})", "{{model}} {{version}}")],
                    unit="s",
                    width=6,
                    steps=((None, GREEN), (86_400, RED)),
                ),
                Panel(
                    "Memory",
                    [Query(f'process_resident_memory_bytes{{endcap_component="predictor", {_PLACE}}}', "{{instance}}")],
                    "Of predictors with one worker. Several workers tell it only to the kubelet.",
                    unit="bytes",
                    width=6,
                ),
            ),
        ),
    ),
    (_NAMESPACE, ("recommender", "label_values(endcap_model_info, model)")),
)
