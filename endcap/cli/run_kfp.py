"""endcap run --on kfp: the same run and the same lines, in a cluster."""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any

import click

from endcap.cli.display import Display
from endcap.cli.reachable import check_addresses, check_sources
from endcap.cli.run import print_comparison, run_name
from endcap.errors import EndcapError, UserError
from endcap.spec.chain import order
from endcap.spec.load import Loaded, resolved
from endcap.store import Store, open_store

STORE = "s3://endcap/store"
"""As the compiled packages have it."""


def run_on_kfp(
    loaded: Loaded,
    pipeline: str,
    arguments: dict[str, Any],
    *,
    spec: str,
    again: str,
    verbose: bool,
    kfp_host: str | None,
    kfp_namespace: str | None,
    kfp_token: str | None,
    kfp_context: str | None,
    kfp_ca: str | None,
    serving_namespace: str | None,
    wait: bool,
    follow: str | None,
    end: str | None,
) -> None:
    """Submit a run and follow it, or follow or end one that was submitted. `arguments`: what was given of the
    pipeline's parameters, such as store and registry; the package's defaults stand for the rest.
    """
    arguments = {"store": STORE, **arguments}
    check_addresses(arguments)
    if not (follow or end):
        check_sources(loaded.shop)
    connect: Callable[..., Any] = entry_points(group="endcap.runner")["kfp"].load()
    server = connect(host=kfp_host, namespace=kfp_namespace, token=kfp_token, context=kfp_context, ca=kfp_ca)
    if end:
        server.end(end)
        click.echo(f"The run {end} is being ended: {server.page(end)}")
        return
    name = loaded.recommender.name
    run = follow
    if run is None:
        title = run_name(loaded)
        submitted = server.submit(
            loaded, pipeline, _parameters(loaded, pipeline, arguments, serving_namespace), name=title
        )
        run = submitted.id
        click.echo(f"Run {click.style(title, bold=True)}: {pipeline} of {name} (shop {loaded.shop.name}) on KFP")
        kept = "uploaded" if submitted.new_version else "there already"
        click.echo(f"  version   {submitted.version} of endcap-{pipeline}-{name}, {kept}")
    click.echo(f"  page      {server.page(run)}")
    if not wait:
        click.echo(_goes_on(spec, run))
        return
    try:
        _follow(server, loaded, pipeline, run, arguments["store"], verbose=verbose, again=again)
    except KeyboardInterrupt:
        click.echo(f"\n{_goes_on(spec, run)}")
        raise


def _follow(server: Any, loaded: Loaded, pipeline: str, run: str, store_url: str, *, verbose: bool, again: str) -> None:
    settings = loaded.recommender.pipeline
    display = Display(verbose=verbose, where=lambda step: f"  run:   {run}\n  page:  {server.page(run)}", again=again)
    store = _store(store_url)
    begun = time.monotonic()
    steps = order(pipeline, settings)
    try:
        server.follow(
            run, steps, display.hear, deadline=settings.deadline, document=lambda step: _document(store, run, step)
        )
    except UserError:
        raise
    except EndcapError as error:
        raise EndcapError(display.failure(error)) from None
    verdict = _verdict(store, display.results.get("evaluate", ""))
    if not display.results:
        click.echo(f"Done. KFP tells nothing of its steps; see {server.page(run)}")
        return
    # The gate's word is in the store, which this machine may not reach: what ended well without a refit did not pass.
    stopped = "evaluate" in display.results and "refit" not in display.results
    display.end(steps, time.monotonic() - begun, stopped=stopped)
    if verdict is not None:
        print_comparison(verdict)


def _parameters(
    loaded: Loaded, pipeline: str, arguments: dict[str, Any], serving_namespace: str | None
) -> dict[str, Any]:
    documents = resolved(loaded)
    if pipeline == "features":
        given = {key: value for key, value in arguments.items() if key != "registry"}
        return {"shop": documents["shop"], **given}
    if pipeline != "training":
        return {**documents, **arguments}
    namespace = loaded.recommender.serving.kubernetes.namespace if serving_namespace is None else serving_namespace
    return {**documents, **arguments, "namespace": namespace}


def _store(url: str) -> Store | None:
    """The store, where this machine has the keys to it: then each step's own words are shown."""
    try:
        return open_store(url)
    except EndcapError:
        return None


def _document(store: Store | None, run: str, step: str) -> dict[str, Any] | None:
    try:
        return None if store is None else store.read_document(f"runs/{run}/{step}" if step else f"runs/{run}")
    except (EndcapError, OSError):
        return None


def _verdict(store: Store | None, address: str) -> dict[str, Any] | None:
    try:
        facts: dict[str, Any] | None = store.manifest(address)["facts"] if store is not None and address else None
    except (EndcapError, OSError):
        return None
    return facts


def _goes_on(spec: str, run: str) -> str:
    command = f"endcap run {spec} --on kfp"
    return f"The run goes on in the cluster.\n  follow: {command} --follow {run}\n  end:    {command} --end {run}"
