"""The options that `endcap deploy` and `endcap undeploy` share."""

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
        help="The namespace of the cluster that serves.",
    ),
    click.option(
        "--kubeconfig",
        type=click.Path(),
        help="A kubeconfig file [default: kubectl's, then the pod's service account].",
    ),
    click.option(
        "--context",
        cls=PlaceOption,
        place="serving_context",
        help="The kubeconfig's context [default: the current one].",
    ),
)


_CHANGE = (
    click.option("--dry-run", is_flag=True, help="Print what would change in the cluster, and change nothing."),
    click.option(
        "--wait/--no-wait", default=True, show_default=True, help="Wait until the cluster has made the change."
    ),
)


def _read_name(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    """Read the recommender's name, which the user gives directly or by the spec's file."""
    if not value.endswith((".yaml", ".yml")):
        return value
    from endcap.spec.load import load
    from endcap.spec.spec_files import find_spec

    return load(find_spec(value)).recommender.name


_RECOMMENDER = click.argument("recommender", shell_complete=complete_recommender, callback=_read_name)


def add_change_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that both commands share, so that a script can give both the same ones."""
    for option in (json_option, registry_option, store_option, place_env_option, *reversed(_CHANGE)):
        command = option(command)
    return _RECOMMENDER(add_cluster_options(command))


def check_dry_run(namespace: str) -> None:
    """Raise UserError if no namespace of a cluster is named to compare with."""
    if not namespace:
        raise UserError(
            "--dry-run compares with a cluster. Name the namespace by --namespace",
            code="cli.option-missing",
            options=["--namespace"],
        )


def add_cluster_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that choose the cluster and its namespace."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
