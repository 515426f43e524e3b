"""endcap events pseudonyms: the pseudonyms of ids, to join what Endcap keeps with tables of one's own."""

from __future__ import annotations

import csv
import sys
from typing import TextIO

import click

from endcap.cli.options import json_option, print_json


@click.command()
@click.argument("file", type=click.File("r", encoding="utf-8"), default="-")
@json_option
def command(file: TextIO, as_json: bool) -> None:
    """Print the pseudonyms of ids.

    FILE has an id on each line; without it, standard input has them. ENDCAP_PSEUDONYM_KEY is the key. The output is CSV
    with the columns `id` and `pseudonym`. Keep it as secret as the key.
    """
    from endcap.pseudonyms import require_pseudonymiser

    pseudonymiser = require_pseudonymiser("`endcap events pseudonyms` needs the key")
    ids = [line for raw in file if (line := raw.rstrip("\r\n"))]
    pairs = {text: pseudonymiser.pseudonymise(text) for text in ids}
    if as_json:
        print_json({"key_id": pseudonymiser.key_id, "pseudonyms": pairs})
        return
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(("id", "pseudonym"))
    writer.writerows(pairs.items())
