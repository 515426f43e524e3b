"""endcap compile: packages for KFP, and the generated files that are checked in."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import click
import yaml

from endcap.cli.completion import complete_spec
from endcap.cli.options import env_option, set_option
from endcap.cli.reachable import check_sources
from endcap.errors import EndcapError, UserError
from endcap.spec.find import find_spec
from endcap.spec.load import load
from endcap.steps import PIPELINES

COMPILED = Path("pipelines/compiled")
DEFAULT = "trial"
"""The spec whose documents are the defaults of the packages that are checked in: it needs no files."""
SCHEMAS = Path("pipelines/specs/schemas")
MANIFESTS = Path("manifests")
OPENAPI = Path("docs/openapi.json")


@click.command()
@click.argument(
    "spec",
    required=False,
    callback=lambda context, parameter, value: value and find_spec(value),
    shell_complete=complete_spec,
)
@env_option
@set_option
@click.option("--pipeline", type=click.Choice(sorted(PIPELINES)), default="training", show_default=True)
@click.option("--output", type=click.Path(path_type=Path), help="Package to write [default: <name>-<pipeline>.yaml].")
@click.option(
    "--workflow-deadline",
    is_flag=True,
    help="Say the run's deadline to the workflow too. KFP before 2.17 drops all settings of pods of such a package.",
)
@click.option("--check", is_flag=True, help="Write nothing; fail where a file is not up to date.")
def command(
    spec: Path | None,
    env: str | None,
    sets: tuple[str, ...],
    pipeline: str,
    output: Path | None,
    workflow_deadline: bool,
    check: bool,
) -> None:
    """Compile SPEC's pipeline to a package for KFP, with the spec's documents as its parameters' defaults.

    Without SPEC: write the repository's generated files, in its root.
    """
    if spec is None:
        _generated(check)
        return
    loaded = load(spec, env=env, sets=sets)
    check_sources(loaded.shop)
    output = output or Path(f"{loaded.recommender.name}-{pipeline}.yaml")
    output.write_text(_compiler()(pipeline, loaded, run_deadline=workflow_deadline))
    click.echo(f"✓ {output}: kfp run create -e {loaded.recommender.name} -f {output}")


def _generated(check: bool) -> None:
    from endcap.cli.chart import guide
    from endcap.spec.schema import schemas

    if not COMPILED.parent.is_dir():
        raise UserError(
            f"there is no folder {COMPILED.parent} here: run this in the repository's root",
            code="cli.not-in-repository",
            folder=str(COMPILED.parent),
        )
    stale = []
    generated = {**_packages(), **{SCHEMAS / name: text for name, text in schemas().items()}, **guide(), **_manifests()}
    generated[OPENAPI] = json.dumps(entry_points(group="endcap.compiler")["openapi"].load()(), indent=1) + "\n"
    for file, text in generated.items():
        if file.is_file() and _meaning(file, file.read_text()) == _meaning(file, text):
            continue
        stale.append(str(file))
        if not check:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
    if check and stale:
        raise EndcapError(
            f"not up to date: {', '.join(stale)}; run `make compile` and check the result in",
            code="cli.generated-files-stale",
            files=stale,
        )
    click.echo("wrote " + ", ".join(stale) if stale else "all generated files are up to date")


def _packages() -> dict[Path, str]:
    compiled, trial = _compiler(), load(find_spec(DEFAULT))
    packages = {COMPILED / f"{pipeline}.yaml": compiled(pipeline, trial) for pipeline in sorted(PIPELINES)}
    on_gpus = compiled("training", load(find_spec(DEFAULT), env="gpu"))
    return packages | {COMPILED / "training-gpu.yaml": on_gpus}


def _manifests() -> dict[Path, str]:
    from endcap.deploy.overlays import placeholder, render

    demo = load(find_spec("demo")).recommender
    files = render(demo, placeholder(demo.name), "endcap compile")
    return {MANIFESTS / name: text for name, text in files.items()}


def _compiler() -> Callable[..., str]:
    compiler: Callable[..., str] = entry_points(group="endcap.compiler")["kfp"].load()
    return compiler


def _meaning(file: Path, text: str) -> Any:
    """What a file says, without the SDK version that KFP stamps in."""
    if file.suffix != ".yaml":
        return text
    documents = list(yaml.safe_load_all(text))
    for document in documents:
        document.pop("sdkVersion", None)
    return documents
