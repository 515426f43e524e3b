"""The chart's schedulers and jobs: least rights, words that the command line knows, specs where it looks for them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from endcap.cli.main import endcap
from endcap.cli.replay import DIFFERENT
from endcap.cli.schedule import _list_parts
from endcap.cli.verdict_lines import UNDECIDED
from endcap.pseudonyms import KEY
from endcap.schedules.webhook import TOKEN
from endcap.spec.environments import VARIABLES
from endcap.store.s3_settings import MOUNTED
from tests.chart.conftest import ROOT, Json, Objects, Refused
from tests.chart.test_tls import mounted_secret

Render = Callable[..., Objects]
RETENTION: Json = {
    "name": "retention",
    "cron": "0 4 * * 0",
    "timeZone": "Europe/Berlin",
    "command": ["endcap", "retention", "apply", "--versions=5"],
}
SHOP = """
apiVersion: endcap/v2
kind: Shop
name: shoes
events:
  sources: [{path: "s3://log/shoes/*.csv"}]
  columns: {session: session, item: item, time: time, type: type}
  types: [view]
"""
HOME = """
apiVersion: endcap/v2
kind: Recommender
name: home
shop: shoes
model: {name: popularity}
schedule:
  train: {cron: "0 3 * * *", arrival: {notifications: true}}
"""
SCHEDULES: Json = {
    "enabled": True,
    "store": "s3://endcap/store",
    "specs": {"home": HOME},
    "shops": {"shoes": SHOP},
    "notifications": {"enabled": True},
    "jobs": [RETENTION],
}


def change(**values: Any) -> Json:
    return {"schedules": {**SCHEDULES, **values}}


def parse(words: list[str]) -> Json:
    """The parameters of the command that these words call. Raises click's errors for those that it does not know."""
    command: Any = endcap
    context = None
    assert words[0] == "endcap"
    rest = words[1:]
    while hasattr(command, "get_command"):
        context = command.make_context(command.name, rest, parent=context, resilient_parsing=True)
        name, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])
    return dict(command.make_context(name, rest, parent=context).params)


def test_the_scheduler_is_called_by_its_words_and_variables(render: Render) -> None:
    objects = render(change(environment="prod", atOnce=7))
    pod = objects.one("Deployment", "endcap-schedules")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    given = parse([*container["command"], *container["args"]])
    assert (given["on"], given["at_once"], given["env"], given["once"]) == ("kfp", 7, "prod", False)
    assert given["listen"] == f"0.0.0.0:{ports['notifications']}"
    assert given["page"] == f"0.0.0.0:{ports['page']}"
    environment = {entry["name"]: entry for entry in container["env"]}
    for place, name in {"store": "ENDCAP_STORE", "registry": "ENDCAP_REGISTRY", "kfp_host": "KFP_ENDPOINT"}.items():
        assert name in VARIABLES[place]
        assert environment[name]["value"]
    assert environment[TOKEN]["valueFrom"]["secretKeyRef"] == {"name": "endcap-schedule-token", "key": TOKEN}
    assert mounted_secret(pod, container, MOUNTED) == "endcap-store"
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"] == {"path": "/healthz", "port": "page"}
    service = objects.one("Service", "endcap-schedules")["spec"]["ports"][0]
    assert service["targetPort"] == "notifications"


def test_specs_lie_where_the_command_looks_for_them(
    render: Render, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = render(change())
    pod = objects.one("Deployment", "endcap-schedules")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    (mount,) = [mount for mount in container["volumeMounts"] if mount["name"] == "specs"]
    (volume,) = [volume for volume in pod["volumes"] if volume["name"] == "specs"]
    data = objects.one("ConfigMap", volume["configMap"]["name"])["data"]
    folder = tmp_path / os.path.relpath(mount["mountPath"], container["workingDir"])
    for entry in volume["configMap"]["items"]:
        file = folder / entry["path"]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(data[entry["key"]])
    monkeypatch.chdir(tmp_path)
    assert [part.name for part in _list_parts((), None)] == ["home/train"]


def test_a_change_of_a_spec_makes_new_pods(render: Render) -> None:
    def read_annotations(values: Json) -> Json:
        template = render(values).one("Deployment", "endcap-schedules")["spec"]["template"]
        return dict(template["metadata"]["annotations"])

    assert read_annotations(change()) == read_annotations(change(atOnce=3))
    assert read_annotations(change()) != read_annotations(change(shops={"shoes": SHOP.replace("view", "buy")}))


def test_jobs_are_one_at_a_time_and_reach_nothing_of_kfp(render: Render) -> None:
    objects = render(change(kfp={"userNamespace": "team-a"}))
    job = objects.one("CronJob", "endcap-retention")["spec"]
    assert (job["schedule"], job["timeZone"], job["concurrencyPolicy"]) == ("0 4 * * 0", "Europe/Berlin", "Forbid")
    assert job["jobTemplate"]["spec"]["activeDeadlineSeconds"] == 3600
    (rule,) = job["jobTemplate"]["spec"]["podFailurePolicy"]["rules"]
    assert {UNDECIDED, DIFFERENT} < set(rule["onExitCodes"]["values"])
    pod = job["jobTemplate"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert parse(container["command"])["versions"] == 5
    assert not any(entry["name"].startswith("KF") for entry in container["env"])
    assert not any("projected" in volume for volume in pod["volumes"])
    pseudonyms = {"pseudonyms": {"secretName": "endcap-pseudonyms"}, **change()}
    made = render(pseudonyms).one("CronJob", "endcap-retention")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    (key,) = [entry for entry in made["containers"][0]["env"] if entry["name"] == KEY]
    assert key["valueFrom"]["secretKeyRef"] == {"name": "endcap-pseudonyms", "key": KEY}
    ports = {
        name: {
            port["port"]
            for rule in objects.one("NetworkPolicy", name)["spec"]["egress"]
            for port in rule.get("ports", [])
        }
        for name in ("endcap-schedules", "endcap-schedules-jobs")
    }
    assert ports["endcap-schedules"] - ports["endcap-schedules-jobs"] == {8888}
    assert "ingress" not in objects.one("NetworkPolicy", "endcap-schedules-jobs")["spec"]


def test_the_account_has_rights_where_runs_are_alone(render: Render) -> None:
    assert not any("schedules" in role["metadata"]["name"] for role in render(change()).of("Role"))
    objects = render(change(kfp={"userNamespace": "team-a"}))
    role = objects.one("Role", "endcap-schedules")
    assert role["metadata"]["namespace"] == "team-a"
    assert {group for rule in role["rules"] for group in rule["apiGroups"]} == {"pipelines.kubeflow.org"}
    assert {verb for rule in role["rules"] for verb in rule["verbs"]} == {"create", "get", "list", "terminate"}
    pod = objects.one("Deployment", "endcap-schedules")["spec"]["template"]["spec"]
    (token,) = [volume["projected"]["sources"][0] for volume in pod["volumes"] if "projected" in volume]
    assert token["serviceAccountToken"]["audience"] == "pipelines.kubeflow.org"


def test_a_cron_job_does_what_is_due_in_place_of_a_service(render: Render) -> None:
    objects = render(change(mode="cronjob", notifications={"enabled": False}, every="*/10 * * * *"))
    assert "endcap-schedules" not in [one["metadata"]["name"] for one in objects.of("Deployment")]
    job = objects.one("CronJob", "endcap-schedules")["spec"]
    assert (job["schedule"], job["concurrencyPolicy"]) == ("*/10 * * * *", "Forbid")
    (container,) = job["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    given = parse([*container["command"], *container["args"]])
    assert (given["once"], given["on"], given["listen"]) == (True, "kfp", None)
    alone = render(change(mode="none", notifications={"enabled": False}, specs={}, shops={}))
    assert [one["metadata"]["name"] for one in alone.of("CronJob")] == ["endcap-retention"]


def test_an_image_of_ones_own_may_have_the_specs(render: Render) -> None:
    objects = render(change(workingDir="/shop", specs={}, shops={}))
    (container,) = objects.one("Deployment", "endcap-schedules")["spec"]["template"]["spec"]["containers"]
    assert container["workingDir"] == "/shop"
    assert "specs" not in [mount["name"] for mount in container["volumeMounts"]]
    assert "endcap-schedules" not in [one["metadata"]["name"] for one in objects.of("ConfigMap")]


@pytest.mark.parametrize(
    "values",
    [
        {"store": ""},
        {"specs": {}},
        {"shops": {}},
        {"workingDir": "/shop"},
        {"mode": "cronjob"},
        {"jobs": [RETENTION, RETENTION]},
        {"jobs": [{**RETENTION, "name": "x" * 40}], "fullnameOverride": "y" * 20},
    ],
    ids=["no store", "no specs", "no shops", "both", "notifications of a job", "a name twice", "a long name"],
)
def test_values_that_do_not_go_together_are_refused(render: Render, values: Json) -> None:
    whole = {"fullnameOverride": values.pop("fullnameOverride", ""), **change(**values)}
    with pytest.raises(Refused, match=r"schedules\.\w+"):
        render(whole)


def test_the_guide_names_what_the_chart_makes(render: Render) -> None:
    guide = (ROOT / "docs" / "chart.md").read_text()
    (example,) = re.findall(r"```yaml\n# schedules.yaml\n(.+?)```", guide, re.DOTALL)
    objects = render({"schedules": {**change()["schedules"], **yaml.safe_load(example)["schedules"]}})
    jobs = [job["spec"]["jobTemplate"]["spec"]["template"]["spec"] for job in objects.of("CronJob")]
    assert len(jobs) == 2
    assert all(parse(job["containers"][0]["command"]) for job in jobs)
    container = objects.one("Deployment", "endcap-schedules")["spec"]["template"]["spec"]["containers"][0]
    (secret,) = [entry for entry in container["env"] if entry["name"] == TOKEN]
    name = secret["valueFrom"]["secretKeyRef"]["name"]
    assert f"create secret generic {name} --from-literal={TOKEN}=" in guide
