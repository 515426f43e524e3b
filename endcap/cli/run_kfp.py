"""endcap run --on kfp: the same run and the same lines, in a cluster."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, TypeVar

import click

from endcap.cli.display import Display
from endcap.cli.reachable import check_addresses, check_sources
from endcap.cli.run import STOPPED, print_comparison, stopped_by
from endcap.errors import EndcapError, UserError
from endcap.runs import Run, Start, StepRun, find_run, find_step, run_name
from endcap.runs.start import COMMAND_LINE
from endcap.spec.chain import order
from endcap.spec.load import Loaded, resolved
from endcap.store import Store, open_store

_Read = TypeVar("_Read")
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
    why: str = "",
) -> dict[str, Any] | None:
    """Submit a run and follow it, or follow or end one that was submitted; returns the facts of the verdict that the
    run led to, where this machine can read the store.

     `arguments`: what was given of the
    pipeline's parameters, such as store and registry; the package's defaults stand for the rest. why: the reason, for
    the run's record.
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
        return None
    name = loaded.recommender.name
    run = follow
    if run is None:
        title = run_name(name)
        date = arguments.get("logical_date", "")
        start = Start.of(loaded, pipeline, how=COMMAND_LINE, why=why, logical_date=date, page=server.page(""))
        arguments["trigger"] = start.to_text()
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
        return None
    try:
        return _follow(server, loaded, pipeline, run, arguments["store"], verbose=verbose, again=again)
    except KeyboardInterrupt:
        click.echo(f"\n{_goes_on(spec, run)}")
        raise


def _follow(
    server: Any, loaded: Loaded, pipeline: str, run: str, store_url: str, *, verbose: bool, again: str
) -> dict[str, Any] | None:
    settings = loaded.recommender.pipeline
    display = Display(
        run=run, verbose=verbose, where=lambda step: f"  run:   {run}\n  page:  {server.page(run)}", again=again
    )
    record = _Record.of(store_url, run)
    begun = time.monotonic()
    steps = order(pipeline, settings)
    try:
        server.follow(run, steps, display.hear, deadline=settings.deadline, said=record.step, recorded=record.whole)
    except UserError:
        raise
    except EndcapError as error:
        raise display.failure(error) from None
    if not display.results:
        click.echo(f"Done. KFP tells nothing of its steps; see {server.page(run)}")
        return None
    verdict = record.facts(display.results.get("evaluate", ""))
    # The gate's word is in the store, which this machine may not reach: what ended well without a refit did not pass.
    stopped = None
    if "evaluate" in display.results and "refit" not in display.results:
        stopped = STOPPED if verdict is None else stopped_by(verdict)
    display.end(steps, time.monotonic() - begun, stopped=stopped)
    if verdict is not None:
        print_comparison(verdict)
    return verdict


@dataclass(frozen=True)
class _Record:
    """What the store has of a run, where this machine has the keys to it; otherwise nothing."""

    run: str
    store: Store | None

    @classmethod
    def of(cls, store_url: str, run: str) -> _Record:
        try:
            return cls(run, open_store(store_url))
        except EndcapError:
            return cls(run, None)

    def step(self, name: str) -> StepRun | None:
        return self._read(lambda store: find_step(store, self.run, name))

    def whole(self) -> Run | None:
        return self._read(lambda store: find_run(store, self.run))

    def facts(self, address: str) -> dict[str, Any] | None:
        """Of an artifact."""
        manifest = self._read(lambda store: store.manifest(address)) if address else None
        return manifest["facts"] if manifest else None

    def _read(self, read: Callable[[Store], _Read | None]) -> _Read | None:
        try:
            return None if self.store is None else read(self.store)
        except (EndcapError, OSError):
            return None


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


def _goes_on(spec: str, run: str) -> str:
    command = f"endcap run {spec} --on kfp"
    return f"The run goes on in the cluster.\n  follow: {command} --follow {run}\n  end:    {command} --end {run}"
