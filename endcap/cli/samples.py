"""endcap samples: show which processes wrote request samples, and what is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from endcap.cli.completion import complete_recommender
from endcap.cli.options import json_option, place_env_option, print_json, store_option
from endcap.cli.stores import open_existing_store
from endcap.tables import format_text_table

if TYPE_CHECKING:
    from endcap.samples.summary import WriterSummary


@click.command()
@click.argument("recommender", shell_complete=complete_recommender)
@click.option(
    "--samples",
    metavar="ADDRESS",
    envvar="ENDCAP_SAMPLES",
    default="",
    help="Where the samples are: a folder or s3://bucket/prefix (ENDCAP_SAMPLES) [default: `samples` in the store].",
)
@place_env_option
@store_option
@json_option
def command(recommender: str, samples: str, store_url: str, as_json: bool) -> None:
    """Show which processes wrote request samples of RECOMMENDER, and what is missing.

    A process without an end lives, or it was killed. Then it lost what it sampled since its last file.
    """
    from endcap.samples.places import open_place
    from endcap.samples.summary import summarise_writers

    address = samples or f"{open_existing_store(store_url).root.removeprefix('file://')}/samples"
    summaries = summarise_writers(open_place(address), recommender)
    if as_json:
        print_json({"samples": address, "writers": [summary.to_json() for summary in summaries]})
    elif summaries:
        columns = ["process", "files", "written", "last", "end", "not kept"]
        click.echo(format_text_table(columns, [_make_row(summary) for summary in summaries]))
    else:
        click.echo(f"no samples of {recommender} in {address}")


def _make_row(summary: WriterSummary) -> list[str]:
    missing = [
        f"{outcome} {rankings:,}" for outcome, rankings in summary.outcomes.items() if rankings and outcome != "written"
    ]
    last = "" if summary.last is None else f"{summary.last:%Y-%m-%d %H:%M:%S}"
    end = "in order" if summary.ended else "none"
    written = f"{summary.outcomes.get('written', 0):,}"
    return [summary.instance, f"{summary.files:,}", written, last, end, ", ".join(missing)]
