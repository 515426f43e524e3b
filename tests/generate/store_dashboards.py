"""The chart's dashboards of what the store tells: rollouts, tests, versions, runs, lists (`endcap/monitoring`)."""

from __future__ import annotations

from tests.generate.grafana import AMBER, GREEN, RED, Dashboard, Panel, Query

_OF = 'recommender=~"$recommender"'
_RECOMMENDER = ("recommender", "label_values(endcap_deployment_share, recommender)")
_VERSION = "{{recommender}} {{version}}"


def _value(metric: str, labels: str = "") -> str:
    return f"{metric}{{{_OF}{', ' + labels if labels else ''}}}"


def _age(metric: str, labels: str = "") -> str:
    return f"time() - {_value(metric, labels)}"


_SHARES = Panel(
    "Share of the shoppers",
    [Query(f"sum by (recommender, version) ({_value('endcap_deployment_share')})", _VERSION)],
    "As the desired state says; gateways follow it within seconds.",
    unit="percentunit",
    most=1,
    width=12,
    stack=True,
)

ROLLOUTS = Dashboard(
    "rollouts",
    "Rollouts",
    "Where each rollout and each A/B test stands, what it rests on, and why it waits. `endcap rollout status` and "
    "`endcap ab status` say it in words.",
    (
        (
            "Now",
            (
                Panel(
                    "Rollouts",
                    [Query(_value("endcap_rollout_info"))],
                    "The reasons are listed in docs/rollout-reference.md.",
                    kind="table",
                    width=16,
                    columns={
                        "recommender": "recommender",
                        "version": "version",
                        "previous_version": "against",
                        "phase": "phase",
                        "reason": "reason",
                    },
                ),
                Panel(
                    "Age of the last look",
                    [Query(_age("endcap_rollout_look_timestamp_seconds"), _VERSION)],
                    kind="stat",
                    unit="s",
                    width=4,
                    steps=((None, GREEN), (3_600, RED)),
                ),
                Panel(
                    "A person should look",
                    [Query(_value("endcap_rollout_attention"), _VERSION)],
                    "1: the last decision asks for it.",
                    kind="stat",
                    width=4,
                    steps=((None, GREEN), (1, AMBER)),
                ),
                _SHARES,
                Panel(
                    "Looks and commands",
                    [
                        Query(
                            f"increase({_value('endcap_rollout_log_entries_total')}[$__rate_interval])",
                            "{{recommender}}",
                        )
                    ],
                    "Entries of the log.",
                    width=12,
                ),
            ),
        ),
        (
            "What shoppers do",
            (
                Panel(
                    "Effect on each metric, with its bounds",
                    [
                        Query(_value("endcap_rollout_effect"), "{{version}} {{metric}}"),
                        Query(_value("endcap_rollout_effect_lower"), "{{version}} {{metric}} at worst"),
                        Query(_value("endcap_rollout_effect_upper"), "{{version}} {{metric}} at best"),
                    ],
                    "Against the version of the same time. The bounds hold at every look together.",
                    unit="percentunit",
                    width=16,
                    height=10,
                ),
                Panel(
                    "Shoppers met",
                    [Query(_value("endcap_rollout_shoppers"), "{{version}} {{arm}} {{metric}}")],
                    width=8,
                    height=10,
                ),
            ),
        ),
        (
            "A/B tests",
            (
                Panel(
                    "A/B tests",
                    [Query(_value("endcap_ab_info"))],
                    "The reasons are listed in docs/ab-reference.md.",
                    kind="table",
                    columns={
                        "recommender": "recommender",
                        "stable_version": "champion",
                        "phase": "phase",
                        "reason": "reason",
                    },
                ),
                Panel(
                    "Age of the last look at a running test",
                    [
                        Query(
                            f"{_age('endcap_ab_look_timestamp_seconds')} and {_value('endcap_ab_running')} == 1",
                            "{{recommender}}",
                        )
                    ],
                    kind="stat",
                    unit="s",
                    width=4,
                    steps=((None, GREEN), (3_600, RED)),
                ),
                Panel(
                    "Epoch",
                    [Query(_value("endcap_ab_epoch"), "{{recommender}}")],
                    kind="stat",
                    width=4,
                ),
                Panel(
                    "Shares",
                    [Query(_value("endcap_ab_share"), _VERSION)],
                    "While a test runs. They move from an epoch to the next.",
                    unit="percentunit",
                    most=1,
                    stack=True,
                ),
                Panel(
                    "Probability of being the best",
                    [Query(_value("endcap_ab_best_probability"), _VERSION)],
                    "By what was known at each look. There is none while the test holds.",
                    unit="percentunit",
                    most=1,
                    width=12,
                    height=10,
                ),
                Panel(
                    "Effect on the deciding metric, with its bounds",
                    [
                        Query(_value("endcap_ab_effect"), "{{version}} {{metric}}"),
                        Query(_value("endcap_ab_effect_lower"), "{{version}} {{metric}} at worst"),
                        Query(_value("endcap_ab_effect_upper"), "{{version}} {{metric}} at best"),
                    ],
                    "Against the champion of the same time. The bounds hold at every look together.",
                    unit="percentunit",
                    width=12,
                    height=10,
                ),
            ),
        ),
        (
            "Guardrails",
            (
                Panel(
                    "Observed against the limit",
                    [
                        Query(
                            _value("endcap_rollout_guardrail_observed")
                            + " / "
                            + _value("endcap_rollout_guardrail_limit"),
                            "{{version}} {{guardrail}}",
                        )
                    ],
                    "1 is the limit. A value above it counts only with enough requests.",
                    steps=((None, GREEN), (1, RED)),
                ),
                Panel(
                    "Evidence of a breach",
                    [Query(_value("endcap_rollout_guardrail_evidence"), "{{version}} {{guardrail}}")],
                    "At 1 the guardrail is broken and the version is taken back.",
                    steps=((None, GREEN), (1, RED)),
                ),
                Panel(
                    "Requests behind it",
                    [Query(_value("endcap_rollout_guardrail_events"), "{{version}} {{guardrail}}")],
                ),
            ),
        ),
        (
            "Can the numbers be trusted",
            (
                Panel(
                    "Age of the newest impression",
                    [Query(_age("endcap_rollout_impression_timestamp_seconds"), _VERSION)],
                    "Above max_silence the rollout holds (no-feed).",
                    unit="s",
                ),
                Panel(
                    "Shoppers seen in both arms",
                    [Query(_value("endcap_rollout_crossed_ratio"), _VERSION)],
                    unit="percentunit",
                ),
                Panel(
                    "Rankings of the wrong arm, and sources that cannot be read",
                    [
                        Query(_value("endcap_rollout_mismatches"), f"{_VERSION} wrong arm"),
                        Query(_value("endcap_rollout_problem"), f"{_VERSION} {{{{source}}}}"),
                    ],
                    steps=((None, GREEN), (1, RED)),
                ),
                Panel(
                    "Reports that were not counted",
                    [Query(_value("endcap_rollout_refused_reports"), "{{recommender}} {{reason}}")],
                    "Since the rollout began.",
                    width=24,
                ),
            ),
        ),
    ),
    (_RECOMMENDER,),
    since="now-7d",
)

VERSIONS = Dashboard(
    "versions",
    "Versions",
    "What each version promised offline, and what shoppers did with it.",
    (
        (
            "Over time",
            (
                Panel(
                    "Offline: metrics of the test part",
                    [
                        Query(
                            _value("endcap_version_offline_metric", 'metric=~"$metric"'),
                            "{{recommender}} {{version}} {{metric}}",
                        )
                    ],
                    "From each version's verdict. They never change; a line begins when the version is registered.",
                    width=12,
                    height=10,
                ),
                Panel(
                    "Online: outcomes of an exposure",
                    [Query(_value("endcap_version_online_rate"), "{{recommender}} {{version}} {{metric}}")],
                    "From the version's rollout: the stable version's rate, and with the effect on it the new one's.",
                    width=12,
                    height=10,
                ),
                _SHARES,
                Panel(
                    "Online effect",
                    [
                        Query(_value("endcap_rollout_effect"), "{{recommender}} {{version}} {{metric}}"),
                        Query(_value("endcap_ab_effect"), "{{recommender}} {{version}} {{metric}} in an A/B test"),
                    ],
                    unit="percentunit",
                    width=12,
                ),
            ),
        ),
        (
            "Versions",
            (
                Panel(
                    "Registered versions",
                    [Query(_age("endcap_version_registered_timestamp_seconds"))],
                    kind="table",
                    unit="s",
                    width=12,
                    columns={
                        "recommender": "recommender",
                        "version": "version",
                        "state": "state",
                        "alias": "alias",
                    },
                    value="age",
                ),
                Panel(
                    "Offline metrics",
                    [Query(_value("endcap_version_offline_metric", 'metric=~"$metric"'))],
                    kind="table",
                    width=12,
                    columns={"recommender": "recommender", "version": "version", "metric": "metric"},
                    value="value",
                ),
            ),
        ),
    ),
    (_RECOMMENDER, ("metric", "label_values(endcap_version_offline_metric, metric)")),
    since="now-30d",
)

BATCH = Dashboard(
    "batch",
    "Runs and lists",
    "Pipelines' runs, replays of answers, and the lists that are made ahead of time.",
    (
        (
            "Runs",
            (
                Panel(
                    "Age of the last success",
                    [Query(_age("endcap_run_success_timestamp_seconds"), "{{recommender}} {{pipeline}}")],
                    kind="stat",
                    unit="s",
                    width=12,
                    steps=((None, GREEN), (172_800, RED)),
                ),
                Panel(
                    "Latest runs",
                    [Query(_value("endcap_run_state"))],
                    kind="table",
                    width=12,
                    columns={
                        "recommender": "recommender",
                        "pipeline": "pipeline",
                        "state": "state",
                        "step": "failed step",
                        "code": "code",
                    },
                ),
                Panel(
                    "Schedules: time without a success, against the limit",
                    [
                        Query(
                            f"({_age('endcap_schedule_last_success_timestamp_seconds')}) / "
                            + _value("endcap_schedule_late_after_seconds"),
                            "{{recommender}} {{part}}",
                        )
                    ],
                    "1 is `late_after` of the spec: then an alert fires.",
                    unit="percentunit",
                    width=12,
                    steps=((None, GREEN), (1, RED)),
                ),
                Panel(
                    "Schedules: decisions",
                    [
                        Query(
                            f"increase({_value('endcap_schedule_steps_total')}[$__rate_interval])",
                            "{{recommender}} {{part}} {{step}} {{reason}}",
                        )
                    ],
                    "The reasons are listed in docs/schedules.md.",
                    width=12,
                ),
                Panel(
                    "Duration of the latest run",
                    [Query(_value("endcap_run_seconds"), "{{recommender}} {{pipeline}}")],
                    unit="s",
                    width=12,
                ),
                Panel(
                    "Failed runs among the latest",
                    [Query(_value("endcap_runs_failed"), "{{recommender}} {{pipeline}}")],
                    "Among the 100 runs of the store that changed last.",
                    width=12,
                ),
            ),
        ),
        (
            "Replays",
            (
                Panel(
                    "Unexplained answers of the latest replay",
                    [
                        Query(
                            _value("endcap_replay_answers", 'outcome="unexplained"'),
                            "{{recommender}} {{check}}",
                        )
                    ],
                    "Served answers that model, rules and event log do not explain (docs/replay.md).",
                    kind="stat",
                    width=8,
                    steps=((None, GREEN), (1, RED)),
                ),
                Panel(
                    "Answers by outcome",
                    [Query(_value("endcap_replay_answers"), "{{recommender}} {{check}} {{outcome}}")],
                    width=8,
                ),
                Panel(
                    "Answers that would have been others",
                    [Query(_value("endcap_replay_changed_answers"), "{{recommender}} {{check}} {{outcome}}")],
                    "By the events that had happened, and by the newest rules.",
                    width=8,
                ),
            ),
        ),
        (
            "Lists",
            (
                Panel(
                    "Age of a version's lists",
                    [Query(_age("endcap_lists_made_timestamp_seconds"), _VERSION)],
                    unit="s",
                    steps=((None, GREEN), (172_800, RED)),
                ),
                Panel("Customers with a list", [Query(_value("endcap_lists_customers"), _VERSION)]),
                Panel(
                    "Places that the model filled",
                    [Query(_value("endcap_lists_filled_ratio"), _VERSION)],
                    "The rest are fallbacks.",
                    unit="percentunit",
                ),
            ),
        ),
        (
            "The page of these numbers",
            (
                Panel(
                    "Age of the last reading of the store",
                    [Query("time() - endcap_store_read_timestamp_seconds", "{{part}}")],
                    unit="s",
                    width=12,
                ),
                Panel(
                    "What could not be read",
                    [Query("increase(endcap_store_read_errors_total[$__rate_interval])", "{{part}} {{code}}")],
                    width=12,
                ),
            ),
        ),
    ),
    (_RECOMMENDER,),
    since="now-7d",
)
