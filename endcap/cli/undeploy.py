"""endcap undeploy: serve a recommender no more."""

from __future__ import annotations

import click

from endcap.cli.cluster import cluster_options
from endcap.cli.completion import complete_recommender
from endcap.cli.options import json_option, place_env_option, print_json, store_option
from endcap.cli.stores import existing_store
from endcap.deploy import forget_state


@click.command()
@click.argument("recommender", shell_complete=complete_recommender)
@cluster_options
@place_env_option
@store_option
@json_option
def command(
    recommender: str, namespace: str, kubeconfig: str | None, context: str | None, store_url: str, as_json: bool
) -> None:
    """Serve RECOMMENDER no more: with --namespace in the cluster, otherwise on this machine.

    With --namespace its InferenceServices and HTTPRoute are deleted, if Endcap made them, and nothing else; the desired
    state stays, so that `endcap deploy` brings them back. Without, the desired state is forgotten. Versions and
    packages stay.
    """
    if namespace:
        from endcap.cluster import connect
        from endcap.deploy.ownership import remove

        gone = remove(recommender, connect(kubeconfig, context), namespace)
        if as_json:
            print_json({"recommender": recommender, "namespace": namespace, "deleted": gone})
            return
        click.echo(f"deleted {', '.join(gone)}" if gone else f"nothing of {recommender} is in namespace {namespace}")
        return
    forget_state(recommender, existing_store(store_url))
    if as_json:
        print_json({"recommender": recommender, "forgotten": True})
        return
    click.echo(f"{recommender} has no desired state any more")
