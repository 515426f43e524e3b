"""What `endcap deploy` and `endcap undeploy` take alike: of whom, in which cluster, and how."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from endcap.cli.completion import complete_recommender
from endcap.cli.options import PlaceOption, json_option, place_env_option, registry_option, store_option
from endcap.errors import UserError

_OPTIONS = (
    click.option(
        "--namespace",
        cls=PlaceOption,
        place="serving_namespace",
        default="",
        help="Serve in this namespace of a cluster.",
    ),
    click.option("--kubeconfig", type=click.Path(), help="Of the cluster [default: as kubectl's, then the pod's own]."),
    click.option(
        "--context",
        cls=PlaceOption,
        place="serving_context",
        help="The kubeconfig's context [default: the current one].",
    ),
)


_CHANGE = (
    click.option("--dry-run", is_flag=True, help="Print what would change in the cluster; change nothing, nowhere."),
    click.option("--wait/--no-wait", default=True, show_default=True, help="Until the cluster has followed."),
)


def _name(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    """The recommender that is meant: by its name, or by its spec's file."""
    if not value.endswith((".yaml", ".yml")):
        return value
    from endcap.spec.find import find_spec
    from endcap.spec.load import load

    return load(find_spec(value)).recommender.name


_RECOMMENDER = click.argument("recommender", shell_complete=complete_recommender, callback=_name)


def change_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """All that both commands take; a script may give both the same."""
    for option in (json_option, registry_option, store_option, place_env_option, *reversed(_CHANGE)):
        command = option(command)
    return _RECOMMENDER(cluster_options(command))


def check_dry_run(namespace: str) -> None:
    """Raise UserError where there is no cluster to compare with."""
    if not namespace:
        raise UserError(
            "--dry-run compares with a cluster: say which --namespace",
            code="cli.option-missing",
            options=["--namespace"],
        )


def cluster_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
