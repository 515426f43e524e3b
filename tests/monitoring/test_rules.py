"""The chart's alerts: promtool tests each of them, and each has a section for who is on call."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tests.monitoring.prometheus import ALERTS, ON_CALL, RULES, Json, read_rules, run_promtool

CASES: dict[str, Json] = yaml.safe_load(ALERTS.read_text())


def test_every_alert_has_a_test_and_a_runbook() -> None:
    alerts = read_rules("alert")
    headings = re.findall(r"^### (Endcap\w+)$", ON_CALL.read_text(), re.M)
    assert list(CASES) == list(alerts)
    assert headings == list(alerts)
    for name, rule in alerts.items():
        assert rule["annotations"]["runbook"] == f"docs/on-call.md#{name.lower()}"
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        assert set(rule["annotations"]) == {"summary", "description", "runbook"}


def test_promtool_takes_the_rules() -> None:
    run_promtool("check", "rules", str(RULES))


@pytest.mark.parametrize("alert", CASES)
def test_alert_fires_only_when_it_should(alert: str, tmp_path: Path) -> None:
    case = CASES[alert]
    labels = {"alertname": alert, "alertstate": "firing", **case.get("labels", {})}
    selector = ", ".join(f'{name}="{value}"' for name, value in labels.items())
    every = f'count(ALERTS{{alertname="{alert}", alertstate="firing"}})'
    # Its own group without the other alerts: a day of all rules takes half a minute.
    groups = yaml.safe_load(RULES.read_text())["groups"]
    group = next(group for group in groups if any(rule.get("alert") == alert for rule in group["rules"]))
    group["rules"] = [rule for rule in group["rules"] if rule.get("alert") in (alert, None)]
    rules = tmp_path / "rules.yaml"
    rules.write_text(yaml.safe_dump({"groups": [group]}))
    document = {
        "rule_files": [str(rules)],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": series, "values": values} for series, values in case["series"].items()],
                "promql_expr_test": [
                    {"expr": every, "eval_time": case["quiet_at"], "exp_samples": []},
                    {"expr": every, "eval_time": case["fires_at"], "exp_samples": [{"value": 1}]},
                    {
                        "expr": f"count(ALERTS{{{selector}}})",
                        "eval_time": case["fires_at"],
                        "exp_samples": [{"value": 1}],
                    },
                ],
            }
        ],
    }
    file = tmp_path / "test.yaml"
    file.write_text(yaml.safe_dump(document))
    run_promtool("test", "rules", str(file))
