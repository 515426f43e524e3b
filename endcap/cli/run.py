"""endcap run: a pipeline on this machine, a line a step."""

from __future__ import annotations

import shlex
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import click

from endcap.cli.options import env_option, registry_option, set_option, spec_argument, store_option
from endcap.errors import EndcapError
from endcap.registry import default_uri
from endcap.spec.base import parse_date
from endcap.spec.load import Loaded, load, resolved
from endcap.store import Store, open_store

STEPS = {
    "training": ("ingest", "features", "train", "evaluate", "refit", "register", "deploy"),
    "features": ("ingest", "features"),
}


@click.command()
@spec_argument
@env_option
@set_option
@click.option("--pipeline", type=click.Choice(sorted(STEPS)), default="training", show_default=True)
@click.option("--logical-date", default="", help="Only events before this date count (ISO, UTC) [default: all].")
@store_option
@registry_option
@click.option("-v", "--verbose", is_flag=True, help="Show what each step says, as it says it.")
def command(
    spec: Path,
    env: str | None,
    sets: tuple[str, ...],
    pipeline: str,
    logical_date: str,
    store_url: str,
    registry: str,
    verbose: bool,
) -> None:
    """Run a recommender's pipeline here: events, features, training, gate, registry, deployment.

    SPEC is a recommender's YAML file, or the name of one in pipelines/specs. What was made before from the same
    inputs, parameters and code is found and not made again; the same command goes on after a failure.
    """
    loaded = load(spec, env=env, sets=sets)
    if logical_date:
        parse_date(logical_date)
    again = shlex.join(["endcap", *sys.argv[1:]])
    run_pipeline(
        loaded,
        pipeline,
        store_url=store_url,
        registry=registry,
        logical_date=logical_date,
        verbose=verbose,
        again=f"{again}   (finished steps are not repeated)",
    )


@dataclass
class RunReport:
    """Where a run's logs lie, and what each step gave."""

    name: str
    folder: Path
    results: dict[str, str] = field(default_factory=dict)


def run_pipeline(
    loaded: Loaded, pipeline: str, *, store_url: str, registry: str, logical_date: str, verbose: bool, again: str
) -> None:
    """Run a pipeline locally and print its lines. Raises EndcapError naming cause, log and `again`, how to go on."""
    opened = open_store(store_url)
    name = f"{loaded.recommender.name}-{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:4]}"
    report = RunReport(name, _logs(opened) / name)
    documents = resolved(loaded)
    arguments: dict[str, Any] = {"shop": documents["shop"], "store": opened.root, "logical_date": logical_date}
    if pipeline == "training":
        if not registry:
            default_uri(opened)  # told now, not by the fourth step, where the store has none
        arguments |= {"recommender": documents["recommender"], "registry": registry, "run": name}
    click.echo(f"Run {click.style(name, bold=True)}: {pipeline} of {loaded.recommender.name} (shop {loaded.shop.name})")
    display = _Display(report, verbose, again)
    runner: Callable[..., None] = entry_points(group="endcap.runner")["local"].load()
    begun = time.monotonic()
    try:
        runner(pipeline, arguments, report.folder, display.hear)
    except EndcapError as error:
        raise EndcapError(display.failure(error)) from None
    verdict = opened.manifest(report.results["evaluate"])["facts"] if "evaluate" in report.results else None
    display.end(STEPS[pipeline], time.monotonic() - begun, stopped=verdict is not None and not verdict["passed"])
    if verdict is not None:
        _print_comparison(verdict)


def _logs(store: Store) -> Path:
    """Where runs on this machine keep their logs: in the store, or below the current folder where that is a bucket."""
    scheme, _, place = store.root.partition("://")
    return Path(place) / "runs" if scheme == "file" else Path(".endcap/runs").resolve()


def _print_comparison(facts: dict[str, Any]) -> None:
    """A row a model: the metrics at the deepest cutoff, and the interval of its MRR."""
    models = facts["metrics"]
    cutoff = max(int(name.partition("@")[2]) for name in models["challenger"])
    shown = [f"{name}@{cutoff}" for name in ("hr", "mrr", "ndcg", "recall", "coverage")]
    click.echo(f"Judged on {facts['predictions']:,} predictions of {facts['sessions']:,} test sessions:")
    click.echo(
        f"  {'':<20}" + "".join(f"{name:>14}" for name in shown) + f"   {facts['confidence']:.0%} of mrr@{cutoff}"
    )
    for name, metrics in models.items():
        lower, upper = facts["intervals"][name][f"mrr@{cutoff}"]
        values = "".join(f"{metrics[metric]:>14.4f}" for metric in shown)
        click.echo(f"  {name:<20}{values}   {lower:.4f} to {upper:.4f}")
    for warning in facts["warnings"]:
        click.echo(f"  {click.style('!', fg='yellow')} {warning}")


class _Display:
    """One line a step: written when it ends; on a terminal, its progress is shown until then."""

    def __init__(self, report: RunReport, verbose: bool, again: str) -> None:
        self._report = report
        self._again = again
        self._verbose = verbose
        self._live = sys.stdout.isatty() and not verbose
        self._running: str | None = None
        self._begun = time.monotonic()
        self._cause = ""

    def hear(self, event: dict[str, Any]) -> None:
        step, state = event["step"], event["state"]
        if state == "started":
            self._running = step
            self._show(f"  … {step}")
        elif state == "progress":
            if self._verbose:
                click.echo(f"    {step}: {event['line']}")
            else:
                self._show(f"  … {step:<9} {event['line']}")
        elif state == "done":
            now = time.monotonic()
            seconds, self._begun = now - self._begun, now
            self._report.results[step] = event["result"]
            self._running = None
            self._clear()
            told = event["summary"] or event["result"]
            click.echo(f"  {click.style('✓', fg='green')} {step:<9} {seconds:6.1f} s  {told}")
        elif state == "failed":
            self._cause = event["cause"]

    def failure(self, error: EndcapError) -> str:
        """The message of a run that stopped: step, cause, log, and the command that goes on."""
        self._clear()
        step = self._running
        if step is None:
            return f"{error}\n  log:   {self._report.folder / 'kfp.log'}\n  again: {self._again}"
        click.echo(f"  {click.style('⨯', fg='red')} {step:<9} {time.monotonic() - self._begun:6.1f} s  failed")
        cause = self._cause or "its process was ended from outside (killed, or out of memory)"
        log = self._report.folder / f"{step}.log"
        return f"step {step} failed: {cause}\n  log:   {log}\n  again: {self._again}"

    def end(self, steps: tuple[str, ...], seconds: float, *, stopped: bool) -> None:
        """The last lines. stopped: the gate did not pass, so that not all steps are expected."""
        self._clear()
        skipped = [step for step in steps if step not in self._report.results]
        if skipped and not stopped:
            raise EndcapError(self.failure(EndcapError(f"these steps did not run: {', '.join(skipped)}")))
        for step in skipped:
            click.echo(f"  - {step:<9}           not run: the gate did not pass")
        click.echo(f"Done in {seconds:.1f} s. Artifacts:")
        for step in steps:
            if "://" in self._report.results.get(step, ""):
                click.echo(f"  {step:<9} {self._report.results[step]}")
        click.echo(f"  logs      {self._report.folder}")

    def _show(self, line: str) -> None:
        if self._live:
            click.echo(f"\r\033[K{line[:110]}", nl=False)

    def _clear(self) -> None:
        if self._live:
            click.echo("\r\033[K", nl=False)
