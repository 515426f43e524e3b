"""The command line: each verb lives in a module of its own, imported only when it is called."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from typing import Any

import click

from endcap import __version__
from endcap.errors import EndcapError, UserError

COMMANDS = {
    "compile": ("endcap.cli.compile", "Write the generated files: compiled pipelines and JSON schemas."),
    "demo": ("endcap.cli.demo", "Run the main job on a simulated shop, from its event log to served rankings."),
    "deploy": ("endcap.cli.deploy", "Show or change which versions serve, and their shares."),
    "events": ("endcap.cli.events", "Event logs: convert published layouts, simulate a shop, query what was taken in."),
    "image": ("endcap.cli.image", "Build an image with your own code and packages, on top of Endcap's."),
    "recommend": ("endcap.cli.recommend", "Make every customer's list ahead of time, and publish it."),
    "refresh": ("endcap.cli.refresh", "Publish a shop's rules, blacklist and item table to whoever serves."),
    "registry": ("endcap.cli.registry", "Versions of a recommender: list, approve, reject, promote."),
    "run": ("endcap.cli.run", "Run a pipeline for a recommender, here on this machine."),
    "serve": ("endcap.cli.serve", "Serve a recommender's deployed versions behind a gateway."),
    "spec": ("endcap.cli.spec", "Check a spec and show it with everything filled in."),
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

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][1]) for name in self.list_commands(context)])


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="endcap")
def endcap() -> None:
    """From a shop's event log to a personalised ranking service."""


def main(arguments: list[str] | None = None) -> Any:
    """Entry point. Exit codes: 0 well, 1 failed, 2 what was given is wrong, 130 interrupted."""
    try:
        return endcap.main(args=arguments, standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        click.echo("\ninterrupted", err=True)
        sys.exit(130)
    except (EndcapError, OSError) as error:
        # What the file system refuses is told as it is; a step's own refusals are StorageErrors that say more.
        if os.environ.get("ENDCAP_TRACEBACK"):
            traceback.print_exc()
        click.echo(f"{click.style('error:', fg='red')} {error}", err=True)
        sys.exit(2 if isinstance(error, UserError) else 1)
