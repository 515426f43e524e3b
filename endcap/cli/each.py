"""Commands that take a file with `for_each` run for each of its recommenders."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from endcap.errors import EndcapError, RunInterruptedError, UserError, append_code
from endcap.spec.load import list_paths


def run_for_each(callback: Callable[..., None]) -> Callable[..., None]:
    """Let a command's function run for each recommender of the file that its argument `spec` names, in turn.

    A failure does not keep the others from running. With `--json`, each prints a document of its own.
    """

    @functools.wraps(callback)
    def run(*arguments: Any, spec: Path, env: str | None, **options: Any) -> None:
        paths = list_paths(spec, env=env)
        if paths == [spec]:
            callback(*arguments, spec=spec, env=env, **options)
            return
        if not paths:
            click.echo(f"{spec}: no value of for_each holds, so there is nothing to do", err=True)
        if options.get("output") is not None:
            raise UserError(
                f"--output names a single file, and {spec} has {len(paths)} recommenders. Leave it out, or choose one, "
                f"such as {paths[0] if paths else spec}",
                code="cli.option-not-here",
                options=["--output"],
            )
        failed: list[str] = []
        status = 0
        for number, path in enumerate(paths, 1):
            click.echo(click.style(f"{path} ({number} of {len(paths)})", bold=True), err=True)
            try:
                callback(*arguments, spec=path, env=env, **options)
            except RunInterruptedError:
                raise
            except EndcapError as error:
                failed.append(path.name)
                click.echo(f"{click.style('error:', fg='red')} {append_code(str(error), error.code)}", err=True)
            except SystemExit as end:
                status = max(status, int(end.code or 0))
        if failed:
            raise EndcapError(
                f"{len(failed)} of {len(paths)} recommenders failed: {', '.join(failed)}. Each error is above. The "
                "same command goes on with what is not done",
                code="cli.recommenders-failed",
                failed=failed,
            )
        if status:
            sys.exit(status)

    return run
