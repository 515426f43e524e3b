"""endcap compile: write a spec's pipeline as a package for Kubeflow Pipelines."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path

import click

from endcap.cli.completion import complete_spec
from endcap.cli.each import run_for_each
from endcap.cli.options import env_option, set_option
from endcap.cli.reachability import check_sources
from endcap.spec.load import load
from endcap.spec.spec_files import find_spec
from endcap.steps import PIPELINES


@click.command()
@click.argument("spec", callback=lambda context, parameter, value: find_spec(value), shell_complete=complete_spec)
@env_option
@set_option
@click.option(
    "--pipeline",
    type=click.Choice(sorted(PIPELINES)),
    default="training",
    show_default=True,
    help="The pipeline to compile.",
)
@click.option("--output", type=click.Path(path_type=Path), help="The file to write [default: <name>-<pipeline>.yaml].")
@click.option(
    "--workflow-deadline",
    is_flag=True,
    help="Also set the run's deadline in the workflow. KFP before 2.17 then ignores all settings of its pods.",
)
@run_for_each
def command(
    spec: Path,
    env: str | None,
    sets: tuple[str, ...],
    pipeline: str,
    output: Path | None,
    workflow_deadline: bool,
) -> None:
    """Write SPEC's pipeline as a package for KFP. The defaults of its parameters are the spec's documents."""
    loaded = load(spec, env=env, sets=sets)
    check_sources(loaded)
    output = output or Path(f"{loaded.recommender.name}-{pipeline}.yaml")
    output.write_text(_load_compiler()(pipeline, loaded, run_deadline=workflow_deadline))
    click.echo(f"✓ {output}: kfp run create -e {loaded.recommender.name} -f {output}")


def _load_compiler() -> Callable[..., str]:
    compiler: Callable[..., str] = entry_points(group="endcap.compiler")["kfp"].load()
    return compiler
