"""endcap run --on kfp: run a pipeline in a cluster, and print the same lines as on this machine."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, TypeVar

import click

from endcap.cli.display import Display
from endcap.cli.outcome import Outcome, note_outcome
from endcap.cli.reachability import check_addresses, check_sources
from endcap.cli.verdict_lines import STOPPED, explain_stop, print_comparison
from endcap.errors import EndcapError, UserError
from endcap.redaction import HIDDEN
from endcap.runs import Run, RunEvent, RunSilence, Start, StepRun, find_run, find_step, make_run_name
from endcap.runs.start import COMMAND_LINE
from endcap.spec.load import Loaded, dump_specs
from endcap.spec.step_order import order_steps
from endcap.store import Store, open_store

_Read = TypeVar("_Read")
_Source = click.core.ParameterSource
STORE = "s3://endcap/store"
"""The store that compiled packages use by default."""
CARRIED = frozenset(
    {"env", "sets", "pipeline", "store_url"}
    | {f"kfp_{name}" for name in ("host", "namespace", "user_namespace", "context", "ca")}
)
"""The options that a command to follow or end a run takes over from the command that started the run."""
SECRETS = {"kfp_token": "KFP_EXISTING_TOKEN", "kfp_cookies": "KFP_COOKIES"}
"""The options that are never shown, and the variables to set in their place."""


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
    kfp_user_namespace: str | None,
    kfp_token: str | None,
    kfp_cookies: str | None,
    kfp_context: str | None,
    kfp_ca: str | None,
    serving_namespace: str | None,
    wait: bool,
    follow: str | None,
    end: str | None,
    why: str = "",
) -> dict[str, Any] | None:
    """Submit a run and follow it; or follow or end a run that was submitted before.

    Parameters
    ----------
    loaded
        The recommender and its shop.
    pipeline
        The pipeline's name.
    arguments
        The given parameters of the pipeline, such as store and registry. The others have the package's defaults.
    spec
        The spec as the user named it, for the commands that are printed.
    again
        The command that goes on after a failure.
    verbose
        Whether to print every line of progress.
    wait
        Whether to follow the run until it ends.
    follow, end
        The id of a run to follow or to end, in place of starting one.
    why
        The reason for the run, kept in its record.
    kfp_host, kfp_namespace, kfp_user_namespace, kfp_token, kfp_cookies, kfp_context, kfp_ca, serving_namespace
        See `endcap.cli.options.add_kfp_options`.

    Returns
    -------
    dict or None
        The facts of the verdict; None if there is none, or this machine cannot read the store.

    Raises
    ------
    EndcapError
        The run failed, or cannot be followed any longer.
    """
    again = _drop_secrets(again)
    arguments = {"store": STORE, **arguments}
    check_addresses(arguments)
    if not (follow or end):
        check_sources(loaded)
    connect: Callable[..., Any] = entry_points(group="endcap.runner")["kfp"].load()
    server = connect(
        host=kfp_host,
        namespace=kfp_namespace,
        user_namespace=kfp_user_namespace,
        token=kfp_token,
        cookies=kfp_cookies,
        context=kfp_context,
        ca=kfp_ca,
        listen=_show_waiting,
    )
    if end:
        server.end(end)
        note_outcome(Outcome(end, "ending", server.page(end)))
        click.echo(f"The run {end} is being ended: {server.page(end)}")
        return None
    name = loaded.recommender.name
    run = follow
    if run is None:
        title = make_run_name(name)
        date = arguments.get("logical_date", "")
        start = Start.of(loaded, pipeline, how=COMMAND_LINE, why=why, logical_date=date, page=server.page(""))
        arguments["trigger"] = start.to_text()
        submitted = server.submit(
            loaded, pipeline, build_parameters(loaded, pipeline, arguments, serving_namespace), name=title
        )
        run = submitted.id
        click.echo(f"Run {click.style(title, bold=True)}: {pipeline} of {name} (shop {loaded.shop.name}) on KFP")
        state = "uploaded" if submitted.new_version else "uploaded before"
        click.echo(f"  version   {submitted.version} of endcap-{pipeline}-{name}, {state}")
    click.echo(f"  page      {server.page(run)}")
    if not wait:
        note_outcome(Outcome(run, page=server.page(run)))
        click.echo(_format_follow_commands(spec, run))
        return None
    try:
        return _follow_run(server, loaded, pipeline, run, arguments["store"], spec=spec, verbose=verbose, again=again)
    except KeyboardInterrupt:
        click.echo(f"\n{_format_follow_commands(spec, run)}")
        raise


def _follow_run(
    server: Any, loaded: Loaded, pipeline: str, run: str, store_url: str, *, spec: str, verbose: bool, again: str
) -> dict[str, Any] | None:
    settings = loaded.recommender.pipeline
    display = Display(
        run=run, verbose=verbose, where=lambda step: f"  run:   {run}\n  page:  {server.page(run)}", again=again
    )
    record = _KfpRecord.of(store_url, run)
    outcome = note_outcome(Outcome(run, page=server.page(run), done=display.done))
    begun = time.monotonic()
    steps = order_steps(pipeline, settings)
    try:
        server.follow(
            run, steps, display.hear, deadline=settings.deadline, read_step=record.find_step, read_run=record.find_run
        )
    except EndcapError as error:
        if error.fields.get("goes_on"):  # The same command would start a second run.
            display.hear(RunSilence("the run is no longer followed"))
            raise EndcapError(
                f"{error}\n{_format_follow_commands(spec, run)}", code=error.code, **error.fields
            ) from None
        if isinstance(error, UserError):
            raise
        raise display.make_failure(error) from None
    if not display.results:
        outcome.state = "succeeded"
        click.echo(f"Done. KFP does not list the steps; see {server.page(run)}")
        return None
    verdict = record.read_facts(display.results.get("evaluate", ""))
    # The gate's decision is in the store, which this machine may not reach. A run that ended well without a refit
    # did not pass.
    stopped = None
    if "evaluate" in display.results and "refit" not in display.results:
        stopped = STOPPED if verdict is None else explain_stop(verdict)
    outcome.seconds, outcome.state = round(time.monotonic() - begun, 3), "succeeded"
    outcome.not_run = display.end(steps, outcome.seconds, stopped=stopped)
    if verdict is not None:
        print_comparison(verdict)
    return verdict


@dataclass(frozen=True)
class _KfpRecord:
    """The record of a run in the store. It is empty if this machine cannot read the store."""

    run: str
    store: Store | None

    @classmethod
    def of(cls, store_url: str, run: str) -> _KfpRecord:
        try:
            return cls(run, open_store(store_url))
        except EndcapError:
            return cls(run, None)

    def find_step(self, name: str) -> StepRun | None:
        """Find a step of the run; None if there is no record of it."""
        return self._read(lambda store: find_step(store, self.run, name))

    def find_run(self) -> Run | None:
        """Find the run; None if there is no record of it."""
        return self._read(lambda store: find_run(store, self.run))

    def read_facts(self, address: str) -> dict[str, Any] | None:
        """Read the facts of an artifact; None if this machine cannot read it."""
        manifest = self._read(lambda store: store.manifest(address)) if address else None
        return manifest["facts"] if manifest else None

    def _read(self, read: Callable[[Store], _Read | None]) -> _Read | None:
        try:
            return None if self.store is None else read(self.store)
        except (EndcapError, OSError):
            return None


def build_parameters(
    loaded: Loaded, pipeline: str, arguments: Mapping[str, Any], serving_namespace: str | None
) -> dict[str, Any]:
    """Build the parameters of a pipeline.

    Parameters
    ----------
    loaded
        The recommender and its shop.
    pipeline
        Its name.
    arguments
        Values that were given.
    serving_namespace
        The namespace that serves the model; None: the spec's.

    Returns
    -------
    dict
        The values of parameters that the pipeline has.
    """
    documents = dump_specs(loaded)
    if pipeline == "features":
        parameters = {key: value for key, value in arguments.items() if key != "registry"}
        return {"shop": documents["shop"], **parameters}
    if pipeline != "training":
        return {**documents, **arguments}
    namespace = loaded.recommender.serving.kubernetes.namespace if serving_namespace is None else serving_namespace
    return {**documents, **arguments, "namespace": namespace}


def _format_follow_commands(spec: str, run: str) -> str:
    """Format the commands to follow or end a run, with the options that were given."""
    context = click.get_current_context()
    words = [*context.command_path.split(), spec]
    for parameter in context.command.params:
        name = str(parameter.name)
        if name in CARRIED and context.get_parameter_source(name) is _Source.COMMANDLINE:
            value = context.params[name]
            for part in value if parameter.multiple else (value,):
                words += [parameter.opts[0], str(part)]
    command = f"{shlex.join(words)} --on kfp"
    hidden = [SECRETS[name] for name in SECRETS if context.get_parameter_source(name) is _Source.COMMANDLINE]
    login = f"\n  with {' and '.join(hidden)} set again" if hidden else ""
    return (
        f"The run goes on in the cluster.\n  follow: {command} --follow {run}\n  end:    {command} --end {run}{login}"
    )


def _drop_secrets(again: str) -> str:
    """Remove tokens and cookies from the command."""
    context = click.get_current_context()
    for name in SECRETS:
        value = context.params[name]
        if value and context.get_parameter_source(name) is _Source.COMMANDLINE:
            again = again.replace(shlex.quote(value), HIDDEN).replace(value, HIDDEN)
    return again


def _show_waiting(event: RunEvent) -> None:
    if isinstance(event, RunSilence):
        click.echo(f"  {click.style('!', fg='yellow')} {event.reason}", err=True)
