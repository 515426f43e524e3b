"""Options that name places: what is not given comes from a variable or the file of environments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest

from endcap.cli.cluster import add_cluster_options
from endcap.cli.main import main
from endcap.cli.options import (
    add_kfp_options,
    add_spec_argument,
    check_online_address,
    env_option,
    online_option,
    place_env_option,
    registry_option,
    store_option,
)
from endcap.online import get_default_online_url, resolve_online_url
from endcap.project.local_run import share_online_address
from tests.spec.test_load import specs, write

__all__ = ["specs"]

ENVIRONMENTS = """\
apiVersion: endcap/v2
kind: Environments
environments:
  prod: {store: s3://shop/store, registry: http://mlflow, kfp: {host: http://kfp}, serving: {namespace: shop}}
"""


@click.command()
@add_spec_argument
@env_option
@store_option
@registry_option
@online_option
@add_kfp_options
@click.pass_context
def of_spec(context: click.Context, /, **values: Any) -> dict[str, tuple[Any, str]]:
    return {name: (value, context.get_parameter_source(name).name) for name, value in values.items()}  # type: ignore[union-attr]


@click.command()
@click.argument("recommender")
@add_cluster_options
@place_env_option
@store_option
def of_name(**values: Any) -> dict[str, Any]:
    return values


@pytest.fixture
def no_variables(monkeypatch: pytest.MonkeyPatch, specs: Path) -> None:
    for name in ("ENDCAP_STORE", "ENDCAP_REGISTRY", "ENDCAP_ONLINE", "ENDCAP_NAMESPACE", "ENDCAP_ENVIRONMENTS"):
        monkeypatch.delenv(name, raising=False)
    write(specs / "environments.yaml", ENVIRONMENTS)


@pytest.mark.usefixtures("no_variables")
@pytest.mark.parametrize("order", [0, 1])
def test_options_come_from_the_command_line_then_variables_then_the_file(
    specs: Path, monkeypatch: pytest.MonkeyPatch, order: int
) -> None:
    monkeypatch.setenv("ENDCAP_REGISTRY", "http://variable")
    spec = [str(specs / "home.yaml")]
    arguments = ["--env", "prod", "--kfp-host", "http://given"]
    values = of_spec(args=[*spec, *arguments] if order else [*arguments, *spec], standalone_mode=False)
    assert values["store_url"] == ("s3://shop/store", "DEFAULT_MAP")
    assert values["registry"] == ("http://variable", "ENVIRONMENT")
    assert values["kfp_host"] == ("http://given", "COMMANDLINE")
    assert values["serving_namespace"] == ("shop", "DEFAULT_MAP")
    assert values["online"] == ("", "DEFAULT")
    assert of_spec(args=spec, standalone_mode=False)["store_url"] == (".endcap/store", "DEFAULT")


@pytest.mark.usefixtures("no_variables")
def test_a_command_on_a_name_reads_the_file_of_the_specs(specs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENDCAP_ENVIRONMENTS", str(specs / "environments.yaml"))
    values = of_name(args=["home", "--env", "prod"], standalone_mode=False)
    assert (values["store_url"], values["namespace"], values["context"]) == ("s3://shop/store", "shop", None)
    values = of_name(args=["home"], standalone_mode=False)
    assert (values["store_url"], values["namespace"]) == (".endcap/store", "")


@pytest.mark.usefixtures("no_variables")
def test_spec_show_says_where_each_place_comes_from(specs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["spec", "show", str(specs / "home.yaml"), "--env", "prod"])
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("#   store"))
    assert line.split()[2] == "s3://shop/store"
    assert line.endswith("environments.yaml:4)")


@pytest.mark.usefixtures("no_variables")
def test_processes_are_told_which_online_store_is_meant_and_that_none_is(tmp_path: Path) -> None:
    """A process that is told nothing takes the store's default one."""
    root = f"file://{tmp_path}"
    told = {"none": None, "": get_default_online_url(root), "redis://here": "redis://here"}
    for given, expected in told.items():
        with share_online_address(check_online_address(given, root)):
            assert resolve_online_url(store_root=root) == expected
    assert resolve_online_url(store_root="s3://bucket/store") is None
