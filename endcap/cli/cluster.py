"""Options that say which cluster, and where in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from endcap.cli.options import PlaceOption

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


def cluster_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
