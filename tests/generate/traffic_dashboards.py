"""The chart's dashboards of what comes in: the gateway and the intake."""

from __future__ import annotations

from tests.generate.grafana import AMBER, GREEN, RED, Dashboard, Panel, Query

_PLACE = 'namespace=~"$namespace"'
_GATEWAY = f'envoy_http_conn_manager_prefix="gateway", {_PLACE}'
_NAMESPACE = ("namespace", 'label_values(up{endcap_component!=""}, namespace)')
_PERCENT = ((None, GREEN), (0.001, AMBER), (0.01, RED))


def _rate(metric: str, labels: str = _PLACE, by: str = "", function: str = "rate") -> str:
    """What a counter rose by, a second or (`increase`) in all."""
    return f"sum by ({by}) ({function}({metric}{{{labels}}}[$__rate_interval]))"


def _quantile(share: float, metric: str, labels: str = _PLACE, by: str = "le") -> str:
    return f"histogram_quantile({share}, {_rate(metric, labels, by)})"


def _sum(metric: str) -> str:
    return f"sum by (instance) ({metric}{{{_PLACE}}})"


GATEWAY = Dashboard(
    "gateway",
    "Gateway",
    "What clients get at Envoy, and which versions answer it.",
    (
        (
            "Clients",
            (
                Panel(
                    "Answers by status",
                    [
                        Query(
                            _rate("envoy_http_downstream_rq_xx", _GATEWAY, "envoy_response_code_class"),
                            "{{envoy_response_code_class}}xx",
                        )
                    ],
                    unit="reqps",
                    stack=True,
                ),
                Panel(
                    "Server errors",
                    [
                        Query(
                            _rate("envoy_http_downstream_rq_xx", f'{_GATEWAY}, envoy_response_code_class="5"')
                            + " / "
                            + _rate("envoy_http_downstream_rq_xx", _GATEWAY),
                            "5xx",
                        )
                    ],
                    unit="percentunit",
                    steps=_PERCENT,
                ),
                Panel(
                    "Time of an answer",
                    [
                        Query(
                            _quantile(share, "envoy_http_downstream_rq_time_bucket", _GATEWAY),
                            f"p{share * 100:g}",
                        )
                        for share in (0.5, 0.95, 0.99)
                    ],
                    unit="ms",
                ),
                Panel(
                    "Requests under way",
                    [Query(f"sum by (instance) (envoy_http_downstream_rq_active{{{_GATEWAY}}})", "{{instance}}")],
                ),
                Panel(
                    "Refused by rate",
                    [
                        Query(
                            _rate("envoy_http_local_rate_limit_rate_limited", by="instance"),
                            "{{instance}}",
                        )
                    ],
                    "Answers 429.",
                    unit="reqps",
                ),
                Panel(
                    "Answered by the list",
                    [
                        Query(
                            _rate("envoy_cluster_upstream_rq_total", f'envoy_cluster_name="fallback", {_PLACE}')
                            + " / "
                            + _rate("envoy_http_downstream_rq_total", _GATEWAY),
                            "popular items",
                        )
                    ],
                    "Requests that no predictor answered in time.",
                    unit="percentunit",
                    steps=_PERCENT,
                ),
            ),
        ),
        (
            "Versions",
            (
                Panel(
                    "Requests by version",
                    [
                        Query(
                            f"{_rate('envoy_cluster_upstream_rq_total', by='envoy_cluster_name')} > 0",
                            "{{envoy_cluster_name}}",
                        )
                    ],
                    unit="reqps",
                    stack=True,
                ),
                Panel(
                    "Answers by version and status",
                    [
                        Query(
                            _rate("envoy_cluster_upstream_rq_xx", by="envoy_cluster_name, envoy_response_code_class"),
                            "{{envoy_cluster_name}} {{envoy_response_code_class}}xx",
                        )
                    ],
                    unit="reqps",
                ),
                Panel(
                    "Healthy addresses",
                    [
                        Query(
                            "min by (envoy_cluster_name) "
                            f'(envoy_cluster_membership_healthy{{envoy_cluster_name!~".+[+]fallback", {_PLACE}}})',
                            "{{envoy_cluster_name}}",
                        )
                    ],
                    "The lowest number among the gateway's pods.",
                ),
                Panel(
                    "Second tries",
                    [
                        Query(
                            _rate("envoy_cluster_upstream_rq_retry", by="envoy_cluster_name"),
                            "{{envoy_cluster_name}}",
                        )
                    ],
                    unit="reqps",
                ),
                Panel(
                    "Configuration",
                    [
                        Query(
                            _rate(metric, by="instance", function="increase"),
                            f"{{{{instance}}}} {says}",
                        )
                        for metric, says in (
                            ("envoy_cluster_manager_cds_update_rejected", "clusters refused"),
                            ("envoy_http_rds_update_rejected", "routes refused"),
                            ("envoy_http_rds_config_reload", "routes taken"),
                        )
                    ],
                    "Refused: a new share or version is not in force.",
                ),
                Panel(
                    "Pods",
                    [Query(f'up{{endcap_component="gateway", {_PLACE}}}', "{{instance}}")],
                    "1: the pod answers Prometheus.",
                ),
            ),
        ),
    ),
    (_NAMESPACE,),
)


INTAKE = Dashboard(
    "intake",
    "Intake",
    "Events, impressions and orders: what comes in, and how soon it is where it must be.",
    (
        (
            "Records",
            (
                Panel("Accepted", [Query(_rate("endcap_intake_accepted_total", by="kind"), "{{kind}}")], unit="reqps"),
                Panel("Refused", [Query(_rate("endcap_intake_rejected_total", by="kind"), "{{kind}}")], unit="reqps"),
                Panel(
                    "Sent twice", [Query(_rate("endcap_intake_duplicates_total", by="kind"), "{{kind}}")], unit="reqps"
                ),
                Panel(
                    "Requests by status",
                    [Query(_rate("endcap_intake_requests_total", by="path, status"), "{{path}} {{status}}")],
                    unit="reqps",
                ),
                Panel(
                    "Time of a request",
                    [
                        Query(
                            _quantile(share, "endcap_intake_request_seconds_bucket"),
                            f"p{share * 100:g}",
                        )
                        for share in (0.5, 0.99)
                    ],
                    unit="s",
                ),
                Panel(
                    "Time of a write to disk, p99",
                    [
                        Query(
                            _quantile(0.99, "endcap_intake_commit_seconds_bucket", by="instance, le"),
                            "{{instance}}",
                        )
                    ],
                    unit="s",
                ),
            ),
        ),
        (
            "On their way",
            (
                Panel(
                    "Oldest segment that waits for the bucket",
                    [Query(_sum("endcap_intake_sealing_lag_seconds"), "{{instance}}")],
                    unit="s",
                    steps=((None, GREEN), (600, RED)),
                ),
                Panel(
                    "Segments that wait, and sealed",
                    [
                        Query(_sum("endcap_intake_closed_segments"), "{{instance}} wait"),
                        Query(
                            _rate("endcap_intake_sealed_segments_total", by="instance", function="increase"),
                            "{{instance}} sealed",
                        ),
                    ],
                ),
                Panel(
                    "Oldest record that waits for the online store",
                    [Query(_sum("endcap_intake_online_lag_seconds"), "{{instance}}")],
                    unit="s",
                    steps=((None, GREEN), (60, RED)),
                ),
                Panel(
                    "The open segment",
                    [Query(_sum("endcap_intake_open_segment_bytes"), "{{instance}}")],
                    unit="bytes",
                ),
                Panel(
                    "Faults",
                    [
                        Query(
                            _rate(f"endcap_intake_{metric}_total", by="instance", function="increase"),
                            f"{{{{instance}}}} {says}",
                        )
                        for metric, says in (
                            ("failed_commits", "writes failed"),
                            ("failed_sealings", "sealings failed"),
                            ("online_failures", "online store failed"),
                            ("online_dropped", "records given up"),
                        )
                    ],
                ),
                Panel(
                    "Damage",
                    [
                        Query(_sum("endcap_intake_damaged_segments_total"), "{{instance}} segments"),
                        Query(_sum("endcap_intake_damaged_ids_total"), "{{instance}} files of ids"),
                        Query(_sum("endcap_intake_cut_tails_total"), "{{instance}} cut tails"),
                    ],
                    "Since the pod started. Cut tails are kills during a write and no damage.",
                ),
            ),
        ),
    ),
    (_NAMESPACE,),
)
