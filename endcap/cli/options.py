"""Options that several commands share."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import click

from endcap.cli.completion import complete_env, complete_spec
from endcap.errors import NotFoundError, UserError
from endcap.online import NONE, open_online, resolve_online_url
from endcap.spec.environments import VARIABLES, Places, resolve
from endcap.spec.spec_files import ENVIRONMENTS, SPECS, find_spec

_Source = click.core.ParameterSource
_PLACES = "endcap.places"


class PlaceOption(click.Option):
    """An option that names a place. If it is not given, a variable or the file of environments gives the place.

    The file lies beside the command's SPEC; `--env` chooses the environment.
    """

    def __init__(self, *names: Any, place: str, **attributes: Any) -> None:
        variable = next(iter(VARIABLES[place]), "")
        attributes["help"] += f" ({variable})" if variable else ""
        super().__init__(*names, **attributes)
        self.place = place

    def consume_value(self, ctx: click.Context, opts: Mapping[str, Any]) -> tuple[Any, click.core.ParameterSource]:
        """Return the value and its origin, in the order of `resolve`."""
        value, source = super().consume_value(ctx, opts)
        if source is _Source.COMMANDLINE or ctx.resilient_parsing:
            return value, source
        places = _read_places(ctx, opts)
        origin = places.origins[self.place]
        if origin == "default":
            return value, source
        from_variable = origin in VARIABLES[self.place]
        return getattr(places, self.place), _Source.ENVIRONMENT if from_variable else _Source.DEFAULT_MAP


def _read_places(context: click.Context, options: Mapping[str, Any]) -> Places:
    """Return the places that variables and the file of environments give to a command. They are read once."""
    if _PLACES not in context.meta:
        spec, env = options.get("spec"), options.get("env")
        file = None
        if isinstance(spec, str):
            with contextlib.suppress(NotFoundError):  # the argument reports it, or also takes other names
                file = find_spec(spec)
        context.meta[_PLACES] = resolve(file, env if isinstance(env, str) else None)
    places: Places = context.meta[_PLACES]
    return places


store_option = click.option(
    "--store",
    "store_url",
    cls=PlaceOption,
    place="store",
    default=".endcap/store",
    show_default=True,
    help="The store of artifacts: a folder, or s3://bucket/prefix.",
)
registry_option = click.option(
    "--registry",
    cls=PlaceOption,
    place="registry",
    default="",
    help="MLflow's address [default: a database in the store, if the store is a folder].",
)
online_option = click.option(
    "--online",
    cls=PlaceOption,
    place="online",
    default="",
    help="The online store: redis://HOST:PORT, rediss://… or sqlite:///PATH; none for no online store.",
)
env_option = click.option(
    "--env",
    shell_complete=complete_env,
    help=f"The environment. It adds overlays (overlays/<env>.yaml beside the spec) and places ({ENVIRONMENTS}).",
)
place_env_option = click.option(
    "--env",
    expose_value=False,
    shell_complete=complete_env,
    help=f"The environment whose places ({ENVIRONMENTS} in {SPECS}) count.",
)
set_option = click.option(
    "--set",
    "sets",
    multiple=True,
    metavar="KEY=VALUE",
    help="Set a key of the spec, such as model.width=64 or shop.window=30d. Repeatable.",
)
date_option = click.option(
    "--logical-date", default="", help="Use only events before this date (ISO, UTC) [default: all events]."
)
verbose_option = click.option("-v", "--verbose", is_flag=True, help="Show each line of progress of each step.")
reason_option = click.option("--why", default="", help="The reason for the run, kept in its record.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for a script.")

_KFP_PLACE = (
    click.option(
        "--kfp-host",
        cls=PlaceOption,
        place="kfp_host",
        help="The address of KFP's API [default: through the kubeconfig].",
    ),
    click.option(
        "--kfp-namespace",
        cls=PlaceOption,
        place="kfp_namespace",
        help="The namespace in which KFP is installed [default: kubeflow].",
    ),
    click.option(
        "--kfp-user-namespace",
        cls=PlaceOption,
        place="kfp_user_namespace",
        help="Your namespace, if KFP serves several users.",
    ),
    click.option(
        "--kfp-token", envvar="KFP_EXISTING_TOKEN", help="The bearer token for KFP's API (KFP_EXISTING_TOKEN)."
    ),
    click.option(
        "--kfp-cookies",
        envvar="KFP_COOKIES",
        help="The cookies of a browser that is logged in: NAME=VALUE (KFP_COOKIES).",
    ),
    click.option(
        "--kfp-context",
        cls=PlaceOption,
        place="kfp_context",
        help="The kubeconfig's context [default: the current one].",
    ),
    click.option(
        "--kfp-ca",
        envvar="KFP_CA",
        type=click.Path(exists=True),
        help="A file with the certificate authority of KFP's certificate (KFP_CA).",
    ),
    click.option(
        "--serving-namespace",
        cls=PlaceOption,
        place="serving_namespace",
        help="The namespace that serves the model; '' for none [default: the spec's].",
    ),
)
_KFP_RUN = (
    click.option("--wait/--no-wait", default=True, help="Follow the run on KFP until it ends.", show_default=True),
    click.option("--follow", metavar="RUN", help="Follow this run on KFP, and start none."),
    click.option("--end", metavar="RUN", help="End this run on KFP, and start none."),
)


def add_kfp_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say how to reach KFP, and what to do there."""
    for option in reversed((*_KFP_PLACE, *_KFP_RUN)):
        command = option(command)
    return command


def add_kfp_place_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say how to reach KFP, and which namespace serves."""
    for option in reversed(_KFP_PLACE):
        command = option(command)
    return command


def add_spec_argument(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the argument SPEC: a recommender's file, or the name of one in pipelines/specs."""
    return click.argument(
        "spec", callback=lambda context, parameter, value: find_spec(value), shell_complete=complete_spec
    )(command)


def make_surplus_error(names: Iterable[str], why: str) -> UserError:
    """Make the error of options that would have no effect.

    Parameters
    ----------
    names
        The names of the command's parameters.
    why
        When the options have an effect.
    """
    options = [f"--{name.replace('_', '-')}" for name in names]
    return UserError(f"{', '.join(options)}: {why}", code="cli.option-not-here", options=options)


def check_online_address(text: str, store_root: str) -> str:
    """Return the online store's address, or `none`. Raises UserError if the text is no address."""
    address = resolve_online_url(text, store_root)
    if address is None:
        return NONE
    open_online(address, shop="any").close()
    return address


def print_json(value: object) -> None:
    """Print a value as indented JSON with sorted keys."""
    click.echo(json.dumps(value, indent=2, sort_keys=True, default=str))
