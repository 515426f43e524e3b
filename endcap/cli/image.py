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
from endcap.cli.image_engine import PROBES, build_image, find_engine, push_image
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
    "--requirements",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file with more packages, as pip reads it.",
)
@click.option("--tag", required=True, metavar="REPOSITORY:TAG", help="The name of the new image.")
@click.option(
    "--base", default=f"endcap:{__version__}", show_default=True, help="The name of Endcap's image in your registry."
)
@click.option("--push", "pushed", is_flag=True, help="Push the image, and print its digest.")
@click.option("--engine", type=click.Choice(list(PROBES)), help="The container engine [default: the first that works].")
@click.option("--context", type=click.Path(path_type=Path), help="Keep the build context in this new folder.")
@click.option("--print", "printed", is_flag=True, help="Print the Dockerfile, and build nothing.")
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

    Every pod that runs the image can import your modules. Name the image by its digest in the recommender's spec: then
    the lineage of every version says exactly which code made it.
    """
    _check(code, requirements, tag)
    with _make_context_folder(context) as folder:
        text = write_context(folder, base, code, requirements)
        if printed:
            click.echo(text, nl=False)
            return
        name = find_engine(engine)
        build_image(name, folder, tag)
    if not pushed:
        click.echo(f"built {tag}; --push pushes it and prints the digest that pipelines should name", err=True)
        return
    reference = push_image(name, tag)
    click.echo(
        "pushed; name it in the spec: pipeline.image, and serving.kubernetes.image if the predictor needs it",
        err=True,
    )
    click.echo(reference)


def _check(code: tuple[Path, ...], requirements: Path | None, tag: str) -> None:
    if not code and requirements is None:
        raise UserError(
            "there is nothing to add to the image. Give --code, --requirements or both", code="cli.nothing-to-add"
        )
    if not _REFERENCE.fullmatch(tag) or "/" in tag.rpartition(":")[2]:
        raise UserError(
            f"--tag: found {tag!r}; allowed: REPOSITORY:TAG, such as registry.example.com/team/shop:1",
            code="cli.image-name",
            found=tag,
        )


@contextlib.contextmanager
def _make_context_folder(kept: Path | None) -> Iterator[Path]:
    """Make an empty folder: the one that the user names, which must not exist yet, or a temporary one."""
    if kept is None:
        with tempfile.TemporaryDirectory(prefix="endcap-image-") as name:
            yield Path(name)
        return
    if kept.exists():
        raise UserError(
            f"--context {kept}: the folder exists already. Name a new one", code="cli.folder-exists", folder=str(kept)
        )
    kept.mkdir(parents=True)
    yield kept
