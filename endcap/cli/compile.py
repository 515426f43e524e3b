"""endcap compile: the generated files that are checked in."""

from __future__ import annotations

import tempfile
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import click
import yaml

from endcap.errors import EndcapError, UserError

COMPILED = Path("pipelines/compiled")
SCHEMAS = Path("pipelines/specs/schemas")


@click.command()
@click.option("--check", is_flag=True, help="Write nothing; fail where a file is not up to date.")
def command(check: bool) -> None:
    """Compile the pipelines to packages for KFP, and write the specs' JSON schemas (run in the repository's root)."""
    from endcap.cli.chart import guide
    from endcap.spec.schema import schemas

    if not COMPILED.parent.is_dir():
        raise UserError(f"there is no folder {COMPILED.parent} here: run this in the repository's root")
    stale = []
    generated = {**_packages(), **{SCHEMAS / name: text for name, text in schemas().items()}, **guide()}
    for file, text in generated.items():
        if file.is_file() and _meaning(file, file.read_text()) == _meaning(file, text):
            continue
        stale.append(str(file))
        if not check:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
    if check and stale:
        raise EndcapError(f"not up to date: {', '.join(stale)}; run `make compile` and check the result in")
    click.echo("wrote " + ", ".join(stale) if stale else "all generated files are up to date")


def _packages() -> dict[Path, str]:
    from kfp import compiler

    packages = {}
    with tempfile.TemporaryDirectory() as folder:
        for pipeline in sorted(entry_points(group="endcap.pipelines"), key=lambda entry: entry.name):
            file = Path(folder) / f"{pipeline.name}.yaml"
            compiler.Compiler().compile(pipeline.load(), str(file))
            packages[COMPILED / file.name] = file.read_text()
    return packages


def _meaning(file: Path, text: str) -> Any:
    """What a file says, without the SDK version that KFP stamps in."""
    if file.suffix != ".yaml":
        return text
    documents = list(yaml.safe_load_all(text))
    for document in documents:
        document.pop("sdkVersion", None)
    return documents
