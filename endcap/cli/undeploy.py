"""endcap undeploy: serve a recommender no more."""

from __future__ import annotations

import click

from endcap.cli.cluster import cluster_options
from endcap.cli.options import opened, place_env_option, store_option
from endcap.deploy import forget_state


@click.command()
@click.argument("recommender")
@cluster_options
@place_env_option
@store_option
def command(recommender: str, namespace: str, kubeconfig: str | None, context: str | None, store_url: str) -> None:
    """Serve RECOMMENDER no more: with --namespace in the cluster, otherwise on this machine.

    With --namespace its InferenceServices and HTTPRoute are deleted, if Endcap made them, and nothing else; the desired
    state stays, so that `endcap deploy` brings them back. Without, the desired state is forgotten. Versions and
    packages stay.
    """
    if namespace:
        from endcap.cluster import connect
        from endcap.deploy.ownership import remove

        gone = remove(recommender, connect(kubeconfig, context), namespace)
        click.echo(f"deleted {', '.join(gone)}" if gone else f"nothing of {recommender} is in namespace {namespace}")
        return
    forget_state(recommender, opened(store_url))
    click.echo(f"{recommender} has no desired state any more")
