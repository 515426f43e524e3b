"""endcap undeploy: stop serving a recommender."""

from __future__ import annotations

import contextlib

import click

from endcap.cli.cluster import add_change_options, check_dry_run
from endcap.cli.options import print_json
from endcap.cli.stores import open_existing_store
from endcap.deploy import forget_state
from endcap.deploy.pins import refuse_pinned
from endcap.errors import IntegrityError, NotFoundError


@click.command()
@add_change_options
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
    """Stop serving RECOMMENDER (a name, or a spec's file): with --namespace in the cluster, else on this machine.

    With --namespace, the command deletes the InferenceServices and the HTTPRoute that Endcap made, and nothing else.
    The desired state stays, so `endcap deploy` creates them again. Without --namespace, the command deletes the desired
    state. Versions and packages stay in both cases. While what is served is pinned, both are refused.
    """
    if dry_run:
        check_dry_run(namespace)
    if namespace:
        # A cluster can be cleared without the store, or with a damaged state: nothing says then that it is pinned.
        with contextlib.suppress(NotFoundError, IntegrityError):
            refuse_pinned(recommender, open_existing_store(store_url))
        _remove_from_cluster(recommender, namespace, (kubeconfig, context), dry_run=dry_run, wait=wait, as_json=as_json)
        return
    forget_state(recommender, open_existing_store(store_url))
    if as_json:
        print_json({"recommender": recommender, "forgotten": True})
        return
    click.echo(f"{recommender} no longer has a desired state")


def _remove_from_cluster(
    recommender: str, namespace: str, where: tuple[str | None, str | None], *, dry_run: bool, wait: bool, as_json: bool
) -> None:
    from endcap.cluster import connect
    from endcap.deploy.ownership import delete_objects, describe_object, find_objects

    cluster = connect(*where)
    if dry_run:
        objects = [describe_object(kind, thing) for kind, thing in find_objects(recommender, cluster, namespace)]
    else:
        objects = delete_objects(recommender, cluster, namespace, wait=wait)
    if as_json:
        result = {"would_delete" if dry_run else "deleted": objects}
        print_json({"recommender": recommender, "namespace": namespace, **result})
        return
    does = "would delete" if dry_run else "deleted"
    click.echo(f"{does} {', '.join(objects)}" if objects else f"nothing of {recommender} is in namespace {namespace}")
