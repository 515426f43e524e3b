"""The options of a predictor, from its command line and the environment."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from endcap.cpus import read_cpu_limit
from endcap.online import NONE, ONLINE, resolve_online_url
from endcap.spec.serving import SAMPLES
from endcap_serving.names import VARIANTS
from endcap_serving.predictor.scopes import NOBODY, SCOPE_FROM
from endcap_serving.tls import add_tls_options

MOUNT = Path("/mnt/models")
"""Where KServe's storage initializer puts what the InferenceService's storageUri names."""


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse a predictor's command line and environment.

    Options may also be spelt as KServe's own servers spell them. What differs between InferenceServices comes from the
    environment.

    Parameters
    ----------
    arguments
        The command line; None: that of this process.

    Raises
    ------
    UserError
        A variable of the environment is refused by `endcap.secrets`.
    SystemExit
        An option is wrong.
    """
    version, variant = os.environ.get("ENDCAP_VERSION"), os.environ.get("ENDCAP_VARIANT", VARIANTS[0])
    parser = argparse.ArgumentParser(
        prog="python -m endcap_serving.predictor",
        description="Serve a package.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--package", "--model_dir", type=Path, default=MOUNT, help="the package's folder")
    add("--model-name", "--model_name", required=True, help="its name in the protocols' paths: the recommender's")
    add("--version", default=version, help="the registered version, told in every answer; or $ENDCAP_VERSION")
    add("--variant", default=variant, help=f"told in every answer: {', '.join(VARIANTS)}; or $ENDCAP_VARIANT")
    add("--port", "--http_port", type=int, default=8080, help="where it listens")
    add("--host", default="0.0.0.0", help="the address to listen on")  # noqa: S104
    add(
        "--workers",
        type=_make_number_parser(1, int),
        default=1,
        help="processes that share the port, each with the whole model",
    )
    threads = "threads that one ranking may use; left out: the CPU limit, shared by the workers"
    add("--threads", type=_make_number_parser(1, int), default=None, help=threads)
    # The environment's address is no default of the option, because the help shows defaults.
    add("--online", default="", help=f"the online store's address, or {NONE}; rather ${ONLINE}: it may hold a password")
    add(
        "--online-timeout",
        type=_make_number_parser(0.001, float),
        default=0.05,
        help="seconds that the online store may take",
    )
    add(
        "--refresh",
        type=_make_number_parser(0.1, float),
        default=5.0,
        help="seconds between two looks for a new catalogue",
    )
    samples = os.environ.get(SAMPLES, "")
    samples_help = f"where request samples go, if the recommender keeps some: a folder or a bucket; or ${SAMPLES}"
    add("--samples", default=samples, help=samples_help)
    add(
        "--samples-age",
        type=_make_number_parser(0.1, float),
        default=60.0,
        help="seconds after which a file of request samples is closed",
    )
    scope_from = os.environ.get("ENDCAP_SCOPE_FROM", NOBODY)
    scope_help = (
        "whose word counts about what a caller may see: the gateway's, where nobody else can reach this, or nobody's"
    )
    add("--scope-from", default=scope_from, help=f"{scope_help}; or $ENDCAP_SCOPE_FROM")
    add(
        "--drain-wait",
        type=_make_number_parser(0, float),
        default=0.0,
        help="seconds from SIGTERM to the end of listening",
    )
    add(
        "--drain-limit",
        type=_make_number_parser(1, int),
        default=10,
        help="seconds that requests under way get after that",
    )
    add_tls_options(parser)
    for name in ("--fd", "--tls-fd", "--signs"):
        add(name, type=int, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    # The parser does not check defaults, which may come from the environment.
    if not options.version:
        parser.error("version: found none; give --version, or ENDCAP_VERSION in the environment")
    if options.variant not in VARIANTS:
        parser.error(f"variant: found {options.variant!r}; allowed: {', '.join(VARIANTS)}")
    if options.scope_from not in SCOPE_FROM:
        parser.error(f"scope-from: found {options.scope_from!r}; allowed: {', '.join(SCOPE_FROM)}")
    options.online = resolve_online_url(options.online) or ""
    options.threads = options.threads or max(1, read_cpu_limit() // options.workers)
    return options


def remove_online_option(arguments: Sequence[str]) -> list[str]:
    """Return a command line without the online store's address, which may hold a password."""
    remaining: list[str] = []
    rest_of_line = iter(arguments)
    for argument in rest_of_line:
        if argument == "--online":
            next(rest_of_line, None)
        elif not argument.startswith("--online="):
            remaining.append(argument)
    return remaining


def _make_number_parser(least: float, kind: type) -> type:
    """Make an argument's type: a number of at least `least`."""

    def parse_number(text: str) -> float:
        value = kind(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"found {text}; allowed: at least {least:g}")
        return value

    parse_number.__name__ = "a number"
    return parse_number  # type: ignore[return-value]
