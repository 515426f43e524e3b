"""The command line: each verb lives in a module of its own, imported only when it is called."""

from __future__ import annotations

import contextlib
import errno
import importlib
import json
import os
import signal
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from types import FrameType
from typing import Any

import click

from endcap import __version__
from endcap.errors import EndcapError, RunInterruptedError, UserError, append_code
from endcap.output_redaction import format_traceback, redact_output

INTERRUPTED = 130
"""The exit code after Ctrl-C, as shells have it."""
COMMANDS = {
    "compare": ("endcap.cli.compare", "Train several models and show them side by side; nothing is registered."),
    "compile": ("endcap.cli.compile", "Compile a spec's pipeline to a package for Kubeflow Pipelines."),
    "demo": ("endcap.cli.demo", "Run the main job on a simulated shop, from its event log to served rankings."),
    "deploy": ("endcap.cli.deploy", "Show or change which versions serve, and their shares."),
    "evaluate": ("endcap.cli.evaluate", "Judge a spec's model or a registered version; nothing is registered."),
    "events": (
        "endcap.cli.events",
        "Event logs: convert published layouts, simulate a shop, describe and query what was taken in.",
    ),
    "image": ("endcap.cli.image", "Build an image with your own code and packages, on top of Endcap's."),
    "rank": ("endcap.cli.rank", "Show what a shopper would be shown now, with titles."),
    "recommend": ("endcap.cli.recommend", "Make every customer's list ahead of time, and publish it."),
    "refresh": ("endcap.cli.refresh", "Publish a shop's rules, blacklist and item table to whoever serves."),
    "registry": ("endcap.cli.registry", "Versions of recommenders: list, approve, reject, promote."),
    "run": ("endcap.cli.run", "Run a pipeline for a recommender, here or on Kubeflow Pipelines."),
    "runs": ("endcap.cli.runs", "Runs: which there are, what each gave and how it ended, their logs."),
    "serve": ("endcap.cli.serve", "Serve a recommender's deployed versions behind a gateway."),
    "spec": ("endcap.cli.spec", "Check, show and migrate specs."),
    "status": ("endcap.cli.status", "What serves of every recommender, since when and with which data."),
    "undeploy": ("endcap.cli.undeploy", "Serve a recommender no more, here or in a cluster."),
}


class _Verbs(click.Group):
    """Knows its commands by name and help alone, so that `endcap --help` imports none of them."""

    def list_commands(self, context: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(COMMANDS[name][0]).command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in COMMANDS and not args[0].startswith("-") and not ctx.resilient_parsing:
            raise click.UsageError(_describe_unknown(args[0], COMMANDS), ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][1]) for name in self.list_commands(context)])


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="endcap")
def endcap() -> None:
    """From a shop's event log to a personalised ranking service."""


def main(arguments: list[str] | None = None) -> Any:
    """Entry point. Exit codes: 0 well, 1 failed, 2 what was given is wrong, 3 a gate is undecided, 130 interrupted.

    An error is a line on standard error with its code; where the command was called with `--json`, standard output
    holds it as a document too.
    """
    redact_output()
    as_json = _wants_json(sys.argv[1:] if arguments is None else arguments)
    try:
        with _exit_on_second_interrupt():
            return endcap.main(args=arguments, prog_name="endcap", standalone_mode=False)
    except click.ClickException as error:
        if as_json:
            _print_error(_convert_usage_error(error))
        error.show()
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        if as_json:
            _print_error(RunInterruptedError("interrupted", code="cli.interrupted"))
        click.echo("\ninterrupted", err=True)
        sys.exit(INTERRUPTED)
    except (EndcapError, OSError) as error:
        # What the file system refuses is told as it is; a step's own refusals are StorageErrors that say more.
        if os.environ.get("ENDCAP_TRACEBACK"):
            click.echo(format_traceback(error), err=True, nl=False)
        reported = error if isinstance(error, EndcapError) else _convert_system_error(error)
        if as_json:
            _print_error(reported)
        click.echo(f"{click.style('error:', fg='red')} {append_code(str(reported), reported.code)}", err=True)
        sys.exit(INTERRUPTED if isinstance(error, RunInterruptedError) else 2 if isinstance(error, UserError) else 1)


def _describe_unknown(word: str, known: Iterable[str]) -> str:
    from endcap.spec.base import suggest

    return f"No such command {word!r}. {suggest(word, known)}".rstrip()


@contextlib.contextmanager
def _exit_on_second_interrupt() -> Iterator[None]:
    """The first Ctrl-C raises KeyboardInterrupt, as ever; what then still takes long, a second one cuts off."""

    def first(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        raise KeyboardInterrupt

    heeded = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # a script's background job ignores it
    if not heeded or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, first)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _wants_json(arguments: Sequence[str]) -> bool:
    """Whether the command was called with `--json`, also where its other arguments are wrong."""
    return "--json" in arguments[: arguments.index("--")] if "--" in arguments else "--json" in arguments


def _print_error(error: EndcapError) -> None:
    click.echo(json.dumps({"error": error.to_json()}, indent=2, sort_keys=True, default=str))


def _convert_usage_error(error: click.ClickException) -> UserError:
    context = getattr(error, "ctx", None)
    command = "endcap" if context is None else context.command_path
    return UserError(error.format_message(), code="cli.usage", command=command)


def _convert_system_error(error: OSError) -> EndcapError:
    name = errno.errorcode.get(error.errno or 0, "")
    return EndcapError(str(error), code="cli.system", errno=name, file=str(error.filename or ""))
