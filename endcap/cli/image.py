"""endcap image: an image with a user's own code and packages, on top of Endcap's."""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click

from endcap import __version__
from endcap.cli.image_context import write_context
from endcap.cli.image_engine import PROBES, build, find_engine, push
from endcap.errors import UserError

_REFERENCE = re.compile(r"[a-z0-9][a-z0-9._:/-]*:[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


@click.command()
@click.option(
    "--code",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    help="A package, a .py file, or a folder of these. Repeatable.",
)
@click.option(
    "--requirements", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="More packages, as pip reads."
)
@click.option("--tag", required=True, metavar="REPOSITORY:TAG", help="What the image is called.")
@click.option("--base", default=f"endcap:{__version__}", show_default=True, help="Endcap's image, as you call it.")
@click.option("--push", "pushed", is_flag=True, help="Push it, and print its digest.")
@click.option("--engine", type=click.Choice(list(PROBES)), help="What builds [default: the first that works].")
@click.option("--context", type=click.Path(path_type=Path), help="Keep the build's folder here, a new one.")
@click.option("--print", "printed", is_flag=True, help="Build nothing; print the Dockerfile.")
def command(
    code: tuple[Path, ...],
    requirements: Path | None,
    tag: str,
    base: str,
    pushed: bool,
    engine: str | None,
    context: Path | None,
    printed: bool,
) -> None:
    """Build an image FROM Endcap's with your own code (a model class, a step) and packages.

    Its modules can be imported in every pod that runs it. Name it by its digest in the recommender's spec, so that the
    lineage of every version says exactly what made it.
    """
    _check(code, requirements, tag)
    with _folder(context) as folder:
        text = write_context(folder, base, code, requirements)
        if printed:
            click.echo(text, nl=False)
            return
        name = find_engine(engine)
        build(name, folder, tag)
    if not pushed:
        click.echo(f"built {tag}; --push pushes it and prints the digest that pipelines should name", err=True)
        return
    reference = push(name, tag)
    click.echo(
        "pushed; name it in the spec: pipeline.image, and serving.kubernetes.image where the predictor needs it",
        err=True,
    )
    click.echo(reference)


def _check(code: tuple[Path, ...], requirements: Path | None, tag: str) -> None:
    if not code and requirements is None:
        raise UserError("nothing to add: give --code, --requirements or both", code="cli.nothing-to-add")
    if not _REFERENCE.fullmatch(tag) or "/" in tag.rpartition(":")[2]:
        raise UserError(
            f"--tag: found {tag!r}; allowed: REPOSITORY:TAG, such as registry.example.com/team/shop:1",
            code="cli.image-name",
            found=tag,
        )


@contextlib.contextmanager
def _folder(kept: Path | None) -> Iterator[Path]:
    """An empty folder; the one that is to be kept must not be there yet."""
    if kept is None:
        with tempfile.TemporaryDirectory(prefix="endcap-image-") as name:
            yield Path(name)
        return
    if kept.exists():
        raise UserError(f"--context {kept}: it exists; name a new folder", code="cli.folder-exists", folder=str(kept))
    kept.mkdir(parents=True)
    yield kept
