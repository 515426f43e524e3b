"""The command line. Each command is a module of its own, which is imported only when the command is called."""

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
"""The exit code after Ctrl-C, the same as in shells."""
COMMANDS = {
    "ab": ("endcap.cli.ab", "A/B tests of several versions, whose shares move to what works."),
    "compare": ("endcap.cli.compare", "Train several models on one dataset, and compare them. Nothing is registered."),
    "compile": ("endcap.cli.compile", "Write a spec's pipeline as a package for Kubeflow Pipelines."),
    "demo": ("endcap.cli.demo", "Simulate a shop, train two models, serve both, and let shoppers decide."),
    "demo-month": ("endcap.cli.demo_month", "Show a month of a simulated shop, whose runs start by themselves."),
    "demo-rollout": ("endcap.cli.demo_rollout", "Roll out four versions to simulated shoppers, who decide on each."),
    "deploy": ("endcap.cli.deploy", "Show or change which versions serve, and their shares."),
    "evaluate": ("endcap.cli.evaluate", "Judge a spec's model or a registered version. Nothing is registered."),
    "events": (
        "endcap.cli.events",
        "Convert, simulate, describe and query event logs.",
    ),
    "image": ("endcap.cli.image", "Build an image with your own code and packages, on top of Endcap's."),
    "lineage": ("endcap.cli.lineage", "Show what a version was made of, and what was made of a file."),
    "metrics": (
        "endcap.cli.metrics",
        "Serve a page for Prometheus: rollouts, A/B tests, versions and runs of a store.",
    ),
    "rank": ("endcap.cli.rank", "Show the items that a shopper would get now, with titles."),
    "recommend": ("endcap.cli.recommend", "Make a list for every customer ahead of time, and publish the lists."),
    "refresh": ("endcap.cli.refresh", "Publish a shop's rules, blacklist and item table to running predictors."),
    "registry": ("endcap.cli.registry", "List, approve, reject and promote versions of recommenders."),
    "replay": ("endcap.cli.replay", "Compute sampled answers again, and say why any differs."),
    "reproduce": ("endcap.cli.reproduce", "Rebuild a version from its snapshot, and compare it bit for bit."),
    "retention": ("endcap.cli.retention", "Show or remove what of a store nobody needs any more."),
    "rollout": ("endcap.cli.rollout", "Rollouts that shoppers decide: plan, start, pause, promote, abort."),
    "run": ("endcap.cli.run", "Run a recommender's pipeline, here or on Kubeflow Pipelines."),
    "runs": ("endcap.cli.runs", "List runs, show how each ended, and print logs."),
    "samples": ("endcap.cli.samples", "Show which processes wrote request samples, and what is missing."),
    "schedule": ("endcap.cli.schedule", "Start runs by themselves: at times, and when new data arrive."),
    "serve": ("endcap.cli.serve", "Serve a recommender's deployed versions behind a gateway on this machine."),
    "spec": ("endcap.cli.spec", "Check, show and migrate specs."),
    "status": ("endcap.cli.status", "Show which versions of every recommender serve, since when, and with which data."),
    "undeploy": ("endcap.cli.undeploy", "Stop serving a recommender, here or in a cluster."),
}


class _LazyGroup(click.Group):
    """Has the names and help texts of its commands, so that `endcap --help` imports none of them."""

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


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="endcap")
def endcap() -> None:
    """From a shop's event log to a personalised ranking service."""


def main(arguments: list[str] | None = None) -> Any:
    """Run the command line and end the process.

    The exit code is 0 after success, 1 after a failure, 2 if the input is wrong, 3 if a gate is undecided, 4 if a
    rebuilt version or a replayed answer differs, and 130 after Ctrl-C. Standard error gets one line with the error and
    its code. With `--json`, standard output also gets the error as a document.

    Parameters
    ----------
    arguments
        The command line without the program's name; that of this process by default.
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
        # The file system's own error is shown as it is; a step raises a StorageError, which says more.
        if os.environ.get("ENDCAP_TRACEBACK"):
            click.echo(format_traceback(error), err=True, nl=False)
        reported = error if isinstance(error, EndcapError) else _convert_system_error(error)
        if as_json:
            _print_error(reported)
        click.echo(f"{click.style('error:', fg='red')} {append_code(str(reported), reported.code)}", err=True)
        sys.exit(INTERRUPTED if isinstance(error, RunInterruptedError) else 2 if isinstance(error, UserError) else 1)


def _describe_unknown(word: str, names: Iterable[str]) -> str:
    from endcap.spec.base import suggest

    return f"No such command {word!r}. {suggest(word, names)}".rstrip()


@contextlib.contextmanager
def _exit_on_second_interrupt() -> Iterator[None]:
    """Let the first Ctrl-C raise KeyboardInterrupt, and the second one end the process at once."""

    def raise_first(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        raise KeyboardInterrupt

    # A background job of a script ignores Ctrl-C, and goes on to ignore it.
    has_default = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not has_default or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, raise_first)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _wants_json(arguments: Sequence[str]) -> bool:
    """Return whether the arguments have `--json`, even if others of them are wrong."""
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
