"""endcap undeploy: serve a recommender no more."""

from __future__ import annotations

import click

from endcap.cli.cluster import change_options, check_dry_run
from endcap.cli.options import print_json
from endcap.cli.stores import existing_store
from endcap.deploy import forget_state


@click.command()
@change_options
def command(
    recommender: str,
    namespace: str,
    kubeconfig: str | None,
    context: str | None,
    dry_run: bool,
    wait: bool,
    store_url: str,
    registry: str,
    as_json: bool,
) -> None:
    """Serve RECOMMENDER (a name, or a spec's file) no more: with --namespace in the cluster, else on this machine.

    With --namespace its InferenceServices and HTTPRoute are deleted, if Endcap made them, and nothing else; the desired
    state stays, so that `endcap deploy` brings them back. Without, the desired state is forgotten. Versions and
    packages stay, so the registry is not asked.
    """
    if dry_run:
        check_dry_run(namespace)
    if namespace:
        _from_cluster(recommender, namespace, (kubeconfig, context), dry_run=dry_run, wait=wait, as_json=as_json)
        return
    forget_state(recommender, existing_store(store_url))
    if as_json:
        print_json({"recommender": recommender, "forgotten": True})
        return
    click.echo(f"{recommender} has no desired state any more")


def _from_cluster(
    recommender: str, namespace: str, where: tuple[str | None, str | None], *, dry_run: bool, wait: bool, as_json: bool
) -> None:
    from endcap.cluster import connect
    from endcap.deploy.ownership import delete_objects, describe_object, find_objects

    cluster = connect(*where)
    if dry_run:
        gone = [describe_object(kind, thing) for kind, thing in find_objects(recommender, cluster, namespace)]
    else:
        gone = delete_objects(recommender, cluster, namespace, wait=wait)
    if as_json:
        what = {"would_delete": gone} if dry_run else {"deleted": gone}
        print_json({"recommender": recommender, "namespace": namespace, **what})
        return
    does = "would delete" if dry_run else "deleted"
    click.echo(f"{does} {', '.join(gone)}" if gone else f"nothing of {recommender} is in namespace {namespace}")
