"""endcap deploy: which versions serve, and their shares, here and in a cluster."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from endcap.cli.cluster import add_change_options, check_dry_run
from endcap.cli.completion import complete_version
from endcap.cli.kill_switch import KillSwitch, explain_rest
from endcap.cli.options import print_json
from endcap.cli.registry import by_option
from endcap.cli.stores import open_existing_registry, open_existing_store
from endcap.deploy import (
    Target,
    deploy,
    describe,
    make_dry_run_store,
    read_state,
    set_shadow,
    set_shadow_share,
    set_share,
)
from endcap.deploy.pins import pin_state, unpin_state
from endcap.errors import UserError
from endcap.experiments.exclusion import refuse_during_rollout
from endcap.registry.decision_hold import hold_name
from endcap.store import Store

if TYPE_CHECKING:
    from endcap.deploy import Deployment
    from endcap.spec import Recommender


@click.command()
@click.option(
    "--version",
    shell_complete=complete_version,
    help="Serve this registered version: the champion to everyone, another as the canary.",
)
@click.option("--share", type=click.FloatRange(0.0, 1.0), help="Give the canary this share of the shoppers, 0 to 1.")
@click.option(
    "--shadow", help="Copy requests to this registered version, whose answers nobody sees. `none` ends the shadow."
)
@click.option(
    "--shadow-share",
    type=click.FloatRange(0.0, 1.0, min_open=True),
    help="The share of the requests that the shadow gets, above 0 to 1. A new shadow gets 0.1 by default.",
)
@click.option(
    "--popularity/--no-popularity",
    default=None,
    help="The kill switch: the most popular items for everyone at once, whatever runs, until --no-popularity.",
)
@click.option(
    "--pin/--unpin",
    default=None,
    help="Keep versions and shares as they are, whatever a rollout or a pipeline wants, until --unpin.",
)
@by_option
@click.option("--why", default="", help="The reason for --popularity or --pin, which `endcap status` shows.")
@click.option("--force", is_flag=True, help="Overwrite fields that others changed in the cluster.")
@click.option(
    "--render", type=click.Path(path_type=Path), help="Write manifests for `kubectl apply -k` into this folder."
)
@add_change_options
def command(
    recommender: str,
    version: str | None,
    share: float | None,
    shadow: str | None,
    shadow_share: float | None,
    popularity: bool | None,
    pin: bool | None,
    by: str,
    why: str,
    namespace: str,
    kubeconfig: str | None,
    context: str | None,
    dry_run: bool,
    force: bool,
    wait: bool,
    render: Path | None,
    store_url: str,
    registry: str,
    as_json: bool,
) -> None:
    """Show the desired state of RECOMMENDER (a name, or a spec's file), or change it; `endcap serve` follows.

    With --namespace, the command creates or patches the InferenceService step by step, and then reads back what the
    cluster really serves. Without --version, --share, --shadow, --popularity and --pin nothing changes.
    """
    store = open_existing_store(store_url)
    if dry_run:
        check_dry_run(namespace)
        # The changes are tried on a copy of the document.
        store = make_dry_run_store(store)
    outcome: list[str] = []
    place = (kubeconfig, context)
    if popularity is not None:
        switch = KillSwitch(recommender, store, "" if dry_run else namespace, place)
        outcome += switch.throw(by=by, why=why) if popularity else switch.take_back()
    if pin is not None:
        _ = pin_state(recommender, store, by=by, why=why) if pin else unpin_state(recommender, store)
    if version is not None:
        _deploy_version(recommender, version, store, registry)
    state = read_state(recommender, store)
    if share is not None:
        with store.hold(hold_name(recommender)):
            refuse_during_rollout(recommender, store, "endcap deploy --share")
            state = set_share(recommender, share, store, version=version or "")
    if shadow is not None or shadow_share is not None:
        state = _change_shadow(recommender, shadow, shadow_share, store, registry)
    if not as_json:
        click.echo(describe(state))
    if render is not None:
        outcome.append(_render(state, store, render))
    if namespace:
        # Everyone has popularity already, so the command waits for nothing, and needs no further right.
        waits = wait and not popularity
        with explain_rest(outcome, recommender) if popularity and not dry_run else nullcontext():
            outcome.append(_apply_to_cluster(state, store, namespace, place, dry_run=dry_run, force=force, wait=waits))
    if as_json:
        print_json({**state.model_dump(mode="json"), "outcome": outcome})
    elif outcome:
        click.echo("\n".join(outcome))


def _change_shadow(name: str, version: str | None, share: float | None, store: Store, registry: str) -> Deployment:
    """Set the shadow, change its share, or end it."""
    if version == "none":
        if share is not None:
            raise UserError(
                "--shadow none ends the shadow, so it does not go with --shadow-share. Leave one of them out",
                code="cli.option-not-here",
                options=["--shadow-share"],
            )
        return set_shadow(name, None, None, store)
    if version is None:
        return set_shadow_share(name, cast(float, share), store)
    candidate = open_existing_registry(registry, store).get_version(name, version)
    if candidate.state == "rejected":
        raise UserError(
            f"version {version} was rejected by {candidate.by} ({candidate.why}), so it cannot be a shadow",
            code="cli.version-rejected",
            recommender=name,
            version=version,
            by=candidate.by,
            why=candidate.why,
        )
    return set_shadow(name, Target(version=candidate.version, package=candidate.package), share, store)


def _apply_to_cluster(
    state: Deployment,
    store: Store,
    namespace: str,
    where: tuple[str | None, str | None],
    *,
    dry_run: bool,
    force: bool,
    wait: bool,
) -> str:
    """Have the cluster serve the state. Returns what the cluster does now; with `dry_run`: what it would do."""
    from endcap.cluster import connect
    from endcap.deploy.reconcile import preview_next_transition, reconcile

    cluster, spec = connect(*where), _read_spec(state, store)
    if dry_run:
        return str(preview_next_transition(spec, state, cluster, namespace, force=force, lies_at=store.lies_at))

    def read_desired() -> Deployment:
        return read_state(state.recommender, store)

    def report(line: str) -> None:
        click.echo(f"  … {line}", err=True)

    options: dict[str, Any] = {"force": force, "wait": wait, "progress": report, "lies_at": store.lies_at}
    return str(reconcile(spec, read_desired, cluster, namespace, **options))


def _read_spec(state: Deployment, store: Store) -> Recommender:
    """Read the spec from the package of the newest version: it says how the recommender is served."""
    return _read_package_spec((state.canary or state.stable).package, store)


def _read_package_spec(package: str, store: Store) -> Recommender:
    from endcap.registry.package import read_recommender

    return read_recommender(store.fetch(package))


def _render(state: Deployment, store: Store, folder: Path) -> str:
    from endcap.deploy.overlays import choose_overlay, render_overlays

    spec = _read_package_spec(state.stable.package, store)
    command = f"endcap deploy {state.recommender} --render {folder}"
    for name, text in render_overlays(spec, state.stable, command).items():
        file = folder / name
        if file.name == "store.env" and file.exists():
            continue  # Someone has filled it in.
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return f"✓ {folder}: fill in base/store.env, then kubectl apply -k {folder}/overlays/{choose_overlay(spec)}"


def _deploy_version(recommender: str, version: str, store: Store, registry: str) -> None:
    """Deploy a version with the spec in its package."""
    registered = open_existing_registry(registry, store).get_version(recommender, version)
    if registered.state == "pending":
        raise UserError(
            f"version {version} waits for approval. Approve it: "
            f"endcap registry approve {recommender} {version} --why …",
            code="cli.version-pending",
            recommender=recommender,
            version=version,
        )
    deploy(_read_package_spec(registered.package, store), version, store, registry, end_canary=True)
